/** An instance's settings: their schema, what is wrong with given ones, and the accounts that follow from them. */
import { createHash } from "node:crypto";
import { status } from "@grpc/grpc-js";
import { invalid, Refusal } from "./errors.js";
import type { Diagnostic } from "./gen/photinus/connector/v1/Diagnostic.js";

const SECRET_LENGTH_MIN = 8;
const KEYS_MAX = 100;

export const CONFIG_SCHEMA = {
  $schema: "https://json-schema.org/draft/2020-12/schema",
  type: "object",
  properties: {
    keys: {
      description:
        "Secrets of this member, each of which makes an account. The first is the default.",
      type: "array",
      minItems: 1,
      maxItems: KEYS_MAX,
      items: { type: "string", minLength: SECRET_LENGTH_MIN, writeOnly: true },
    },
  },
  required: ["keys"],
  additionalProperties: false,
} as const;

export interface Settings {
  keys: string[];
}

/** Parses settings. What is wrong comes back as diagnostics, which never quote a value. */
export function readSettings(text: string): { settings?: Settings; diagnostics: Diagnostic[] } {
  const diagnostics: Diagnostic[] = [];
  const wrong = (pointer: string, summary: string): void => {
    diagnostics.push({ severity: "SEVERITY_ERROR", summary, pointer });
  };
  let found: unknown;
  try {
    found = JSON.parse(text);
  } catch {
    // Told below.
  }
  if (typeof found !== "object" || found === null || Array.isArray(found)) {
    wrong("", "The settings are no JSON object");
    return { diagnostics };
  }
  for (const name of Object.keys(found)) {
    if (name !== "keys") wrong(`/${escaped(name)}`, "This setting is not known");
  }
  const { keys } = found as { keys?: unknown };
  if (!Array.isArray(keys) || keys.length < 1 || keys.length > KEYS_MAX) {
    wrong("/keys", `keys must be a list of 1 to ${KEYS_MAX} secrets`);
  } else {
    keys.forEach((key: unknown, index) => {
      if (typeof key !== "string" || key.length < SECRET_LENGTH_MIN) {
        wrong(`/keys/${index}`, `A key must be a text of at least ${SECRET_LENGTH_MIN} characters`);
      }
    });
  }
  return diagnostics.length
    ? { diagnostics }
    : { settings: { keys: keys as string[] }, diagnostics };
}

/** A name as part of a JSON Pointer, of a length that fits a diagnostic. */
function escaped(name: string): string {
  return name.slice(0, 100).replaceAll("~", "~0").replaceAll("/", "~1");
}

/** The accounts an instance may sign for, in their canonical form: `0x` and 40 hex digits. */
export class Accounts {
  private readonly held: string[];

  constructor(settings: Settings) {
    this.held = settings.keys.map(
      (key) =>
        `0x${createHash("sha256").update(`memory-ledger/${key}`).digest("hex").slice(0, 40)}`,
    );
  }

  /** Canonical form of what a user wrote; empty stands for the first account. */
  resolve(text: string, { toSign }: { toSign: boolean }): string {
    const account = text === "" ? (this.held[0] ?? "") : text.toLowerCase();
    if (!/^0x[0-9a-f]{40}$/.test(account)) {
      throw invalid("An account is 0x and 40 hex digits", "INVALID_KEY");
    }
    if (toSign && !this.held.includes(account)) {
      const message = `The secret of ${account} is not among the settings' keys`;
      throw new Refusal(status.NOT_FOUND, "UNKNOWN_KEY", message);
    }
    return account;
  }
}
