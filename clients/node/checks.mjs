// What the checks of npm's clients have in common, as checks.py is for Python's.

import { readFileSync } from "node:fs";
import { z } from "zod";

export const URL = process.env.SLUICE_URL ?? "http://127.0.0.1:8000";
export const MODEL = process.env.SLUICE_MODEL ?? "smollm2-135m-instruct";
export const QUESTION = "Extract the order: two large pizzas for Ann, please.";

// An order of food. Bounded, so that a small model comes to an end.
export const Order = z.strictObject({
  size: z.enum(["small", "large"]),
  count: z.number().int().min(1).max(9),
  name: z.string().max(12),
});
export const Size = z.strictObject({ size: z.enum(["small", "large"]) });

export function expect(condition, message) {
  if (!condition) throw new Error(message ?? "it is not so");
}

// The error that `action` fails with.
export async function failure(action) {
  try {
    await action();
  } catch (error) {
    return error;
  }
  throw new Error("it did not fail");
}

// Runs `checks`, feature → function; results go to stdout, one JSON object a line.
export async function run(client, checks) {
  const { version } = JSON.parse(readFileSync(`node_modules/${client}/package.json`, "utf8"));
  for (const [feature, check] of Object.entries(checks)) {
    const result = { client: `${client} (npm)`, version, feature, ok: true };
    try {
      await check();
    } catch (error) {
      console.error(error);
      Object.assign(result, { ok: false, error: `${error}`.slice(0, 300) });
    }
    console.log(JSON.stringify(result));
  }
}
