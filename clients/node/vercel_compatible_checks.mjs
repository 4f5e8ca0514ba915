// Vercel's `ai` by @ai-sdk/openai-compatible, which speaks chat.

import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { run, MODEL, URL } from "./checks.mjs";
import { checksOf } from "./vercel_checks.mjs";

const provider = createOpenAICompatible({
  name: "sluice",
  baseURL: `${URL}/v1`,
  apiKey: "none",
  includeUsage: true,
  supportsStructuredOutputs: true,
});

await run("@ai-sdk/openai-compatible", checksOf(provider(MODEL), provider("nothing")));
