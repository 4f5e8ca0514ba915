// Vercel's `ai` by @ai-sdk/openai, which speaks Responses unless told otherwise.

import { createOpenAI } from "@ai-sdk/openai";
import { run, MODEL, URL } from "./checks.mjs";
import { checksOf } from "./vercel_checks.mjs";

const provider = createOpenAI({ baseURL: `${URL}/v1`, apiKey: "none" });
const named = (how, checks) => Object.fromEntries(Object.entries(checks).map(([name, check]) => [`${how}, ${name}`, check]));

await run("@ai-sdk/openai", {
  ...named("Responses", checksOf(provider(MODEL), provider("nothing"))),
  ...named("chat", checksOf(provider.chat(MODEL), provider.chat("nothing"))),
});
