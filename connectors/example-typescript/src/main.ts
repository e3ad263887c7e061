#!/usr/bin/env node
/** The program: arguments, the handshake, and when to end. */
import { fstatSync } from "node:fs";
import { parseArgs } from "node:util";
import { StartError } from "./address.js";
import { NAME } from "./connector.js";
import { log } from "./log.js";
import { start } from "./server.js";
import { CONFIG_SCHEMA } from "./settings.js";

const DRAIN_GRACE_MS = 10_000;
const USAGE = `usage: photinus-example-typescript [--address unix:/path | 127.0.0.1:port] [--data-dir DIR]
                                   [--insecure] [--print-schema]`;

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      address: { type: "string", default: "" },
      "data-dir": {
        type: "string",
        default: process.env["PHOTINUS_DATA_DIR"] || `.photinus/${NAME}`,
      },
      insecure: { type: "boolean", default: false },
      "print-schema": { type: "boolean", default: false },
      help: { type: "boolean", default: false },
    },
  });
  if (values.help) return console.log(USAGE);
  if (values["print-schema"]) return console.log(JSON.stringify(CONFIG_SCHEMA, null, 2));
  const running = await start({
    address: values.address,
    dataDir: values["data-dir"],
    insecure: values.insecure,
    onFailure: (error) => {
      log("error", "the journal cannot be written", { cause: String(error) });
      process.exit(1);
    },
  });
  let ending = false;
  const end = (why: string): void => {
    if (ending) return;
    ending = true;
    log("info", "ending", { why });
    running.stop(DRAIN_GRACE_MS).then(
      () => process.exit(0),
      (error: unknown) => fail(error),
    );
  };
  process.on("SIGTERM", () => end("SIGTERM"));
  process.on("SIGINT", () => end("SIGINT"));
  if (process.env["PHOTINUS_LAUNCHED"] && isFromParent()) {
    // A launched connector ends with its core, whose end closes our standard input.
    process.stdin
      .on("end", () => end("the core is gone"))
      .on("error", () => end("the core is gone"));
    process.stdin.resume();
  }
  const { address } = running;
  const handshake = { handshake: 1, address, protocol: ["v1"], pid: process.pid };
  process.stdout.write(`${JSON.stringify(handshake)}\n`);
  log("info", "serving", { address });
}

function isFromParent(): boolean {
  const found = fstatSync(0);
  return found.isFIFO() || found.isSocket();
}

function fail(error: unknown): void {
  const short = error instanceof StartError || (error as { code?: string }).code !== undefined;
  const { message, stack } = error as Error;
  process.stderr.write(`${NAME}: ${short ? message : (stack ?? message)}\n`);
  process.exit(2);
}

main().catch(fail);
