// The openai SDK of npm: chat and Responses; plain, parsed, streamed, with tools; errors; aborted.

import OpenAI from "openai";
import { zodFunction, zodResponseFormat, zodTextFormat } from "openai/helpers/zod";
import { expect, failure, MODEL, Order, QUESTION, run, Size, URL } from "./checks.mjs";

const client = new OpenAI({ baseURL: `${URL}/v1`, apiKey: "none" });
const ask = { model: MODEL, messages: [{ role: "user", content: QUESTION }], temperature: 0 };
const grammar = { type: "grammar", syntax: "lark", definition: 'start: "ORDER " /[1-9]/' };

await run("openai", {
  chat: async () => {
    const answer = await client.chat.completions.create({ ...ask, max_tokens: 9 });
    expect(answer.choices[0].message.content && answer.usage.completion_tokens);
  },
  "chat, streamed": async () => {
    const stream = await client.chat.completions.create({
      ...ask,
      max_tokens: 9,
      stream: true,
      stream_options: { include_usage: true },
    });
    let text = "";
    let usage;
    for await (const chunk of stream) {
      text += chunk.choices[0]?.delta.content ?? "";
      usage = chunk.usage ?? usage;
    }
    expect(text && usage.completion_tokens);
  },
  "`.parse()` to a Zod type": async () => {
    const format = zodResponseFormat(Order, "order");
    const answer = await client.chat.completions.parse({ ...ask, response_format: format });
    Order.parse(answer.choices[0].message.parsed);
  },
  "tools, parsed": async () => {
    const answer = await client.chat.completions.parse({
      ...ask,
      tools: [zodFunction({ name: "order", parameters: Order })],
      tool_choice: "required",
      parallel_tool_calls: false,
    });
    const [call] = answer.choices[0].message.tool_calls;
    Order.parse(call.function.parsed_arguments);
    expect(answer.choices[0].finish_reason === "tool_calls");
  },
  "tools, streamed": async () => {
    const stream = client.chat.completions.stream({
      ...ask,
      tools: [zodFunction({ name: "order", parameters: Order })],
      tool_choice: "required",
      parallel_tool_calls: false,
    });
    const deltas = [];
    stream.on("tool_calls.function.arguments.delta", (event) => deltas.push(event.arguments_delta));
    const [call] = (await stream.finalChatCompletion()).choices[0].message.tool_calls;
    Order.parse(JSON.parse(call.function.arguments));
    expect(deltas.length > 1);
  },
  "`.runTools()`": async () => {
    const sizes = [];
    const runner = client.chat.completions.runTools(
      {
        ...ask,
        max_tokens: 300,
        tool_choice: { type: "function", function: { name: "in_stock" } },
        tools: [
          zodFunction({
            name: "in_stock",
            parameters: Size,
            function: ({ size }) => {
              sizes.push(size);
              return "7";
            },
          }),
        ],
      },
      { maxChatCompletions: 2 },
    );
    await runner.done();
    expect(sizes.length > 0 && sizes.every((size) => Size.parse({ size })));
  },
  "Responses, parsed": async () => {
    const answer = await client.responses.parse({
      model: MODEL,
      input: QUESTION,
      temperature: 0,
      text: { format: zodTextFormat(Order, "order") },
    });
    Order.parse(answer.output_parsed);
  },
  "Responses, `.stream()`": async () => {
    const stream = client.responses.stream({
      model: MODEL,
      input: QUESTION,
      temperature: 0,
      text: { format: zodTextFormat(Order, "order") },
    });
    const kinds = [];
    for await (const event of stream) kinds.push(event.type);
    Order.parse((await stream.finalResponse()).output_parsed);
    expect(kinds[0] === "response.created" && kinds.at(-1) === "response.completed");
  },
  "Responses, custom tool with a grammar": async () => {
    const answer = await client.responses.create({
      model: MODEL,
      input: QUESTION,
      tools: [{ type: "custom", name: "order", format: grammar }],
      tool_choice: { type: "custom", name: "order" },
    });
    expect(/^ORDER [1-9]$/.test(answer.output[0].input));
  },
  errors: async () => {
    const unknown = await failure(() => client.chat.completions.create({ ...ask, model: "nothing" }));
    expect(unknown instanceof OpenAI.NotFoundError && unknown.code === "model_not_found");
    const schema = { type: "json_schema", json_schema: { name: "x", strict: true, schema: { type: "strin" } } };
    const invalid = await failure(() => client.chat.completions.create({ ...ask, response_format: schema }));
    expect(invalid instanceof OpenAI.BadRequestError && invalid.param === "response_format", invalid.message);
    expect(invalid.requestID.startsWith("req_"));
  },
  "a stream, aborted": async () => {
    const stream = await client.chat.completions.create({ ...ask, max_tokens: 2000, stream: true });
    let chunks = 0;
    for await (const _ of stream) {
      if (++chunks === 3) stream.controller.abort();
    }
    expect(chunks < 10);
  },
});
