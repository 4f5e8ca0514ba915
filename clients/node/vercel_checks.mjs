// What Vercel's `ai` does with any of its providers: text, streams, objects, tools, a loop of them, and errors.

import { generateText, Output, stepCountIs, streamText, tool } from "ai";
import { expect, failure, Order, QUESTION, Size } from "./checks.mjs";

export function checksOf(model, unknown) {
  const ask = { model, prompt: QUESTION, temperature: 0, maxRetries: 0 };
  const output = Output.object({ schema: Order });

  // A tool that notes the sizes it is asked about.
  const stock = (sizes) => ({
    in_stock: tool({
      description: "How many pizzas of a size there are.",
      inputSchema: Size,
      execute: ({ size }) => {
        sizes.push(size);
        return "7";
      },
    }),
  });

  return {
    generateText: async () => {
      const { text, usage } = await generateText({ ...ask, maxOutputTokens: 9 });
      expect(text && usage.outputTokens);
    },
    streamText: async () => {
      const answer = streamText({ ...ask, maxOutputTokens: 9 });
      let text = "";
      for await (const delta of answer.textStream) text += delta;
      expect(text && (await answer.usage).outputTokens);
    },
    "generateText, Output.object": async () => {
      Order.parse((await generateText({ ...ask, output })).output);
    },
    "streamText, Output.object": async () => {
      const answer = streamText({ ...ask, output });
      let partials = 0;
      for await (const _ of answer.partialOutputStream) partials += 1;
      Order.parse(await answer.output);
      expect(partials > 1);
    },
    "tools, required": async () => {
      const sizes = [];
      const { toolCalls, finishReason } = await generateText({ ...ask, tools: stock(sizes), toolChoice: "required" });
      expect(toolCalls.length > 0 && toolCalls.every((call) => Size.parse(call.input)));
      expect(finishReason === "tool-calls" && sizes.length === toolCalls.length);
    },
    "tools, streamed": async () => {
      const answer = streamText({ ...ask, tools: stock([]), toolChoice: { type: "tool", toolName: "in_stock" } });
      const kinds = [];
      for await (const part of answer.fullStream) kinds.push(part.type);
      expect(kinds.includes("tool-input-delta") && kinds.includes("tool-result"), kinds.join());
    },
    "a loop of tools": async () => {
      const sizes = [];
      const { steps } = await generateText({
        ...ask,
        tools: stock(sizes),
        maxOutputTokens: 200,
        stopWhen: stepCountIs(2),
        prepareStep: ({ stepNumber }) => ({ toolChoice: stepNumber === 0 ? "required" : "none" }),
      });
      expect(steps.length === 2 && sizes.length > 0 && steps[1].text);
    },
    errors: async () => {
      const error = await failure(() => generateText({ ...ask, model: unknown }));
      expect(error.statusCode === 404 && /nothing/.test(error.message), error.message);
    },
  };
}
