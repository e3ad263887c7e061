/**
 * The ledger: transactions in memory, one to a block, final at once, chained by hashes.
 *
 * A transaction is added when its call is taken, and published once the journal holds it: what
 * listeners have seen can never be undone by a crash.
 */
import { createHash } from "node:crypto";
import { invalid } from "./errors.js";

/** What a transaction says. */
export type Body =
  | {
      kind: "pin";
      transactionUuid: string;
      batchId: string;
      batchHash: string;
      payloadRef: string;
      contexts: string[];
    }
  | { kind: "action"; action: string; payload: string };

/** A transaction as it was signed. */
export interface Content {
  signer: string;
  contract: string;
  /** Milliseconds since 1970. */
  time: number;
  body: Body;
}

/** A transaction with its place. */
export interface Transaction extends Content {
  /** From 1. */
  block: number;
  /** Covers the content and the block before. */
  hash: string;
}

export class Ledger {
  /** Number of the last published block. */
  head = 0;
  private readonly transactions: Transaction[] = [];
  private readonly watchers = new Set<() => void>();

  /** `id` makes the hashes of two ledgers differ from their first block on. */
  constructor(private readonly id: string) {}

  add(content: Content): Transaction {
    const block = this.transactions.length + 1;
    const hash = digest(this.hashOf(block - 1) + JSON.stringify(content));
    const made = { ...content, block, hash };
    this.transactions.push(made);
    return made;
  }

  publish(block: number): void {
    this.head = block;
    for (const wake of this.watchers) wake();
  }

  /** The transaction of a published block. */
  at(block: number): Transaction {
    const found = block <= this.head ? this.transactions[block - 1] : undefined;
    if (found === undefined) throw new RangeError(`there is no block ${block}`);
    return found;
  }

  find(hash: string): Transaction | undefined {
    return this.transactions.find((each) => each.hash === hash && each.block <= this.head);
  }

  /** Hash of a block; block 0 stands for the beginning. */
  hashOf(block: number): string {
    return block === 0 ? digest(this.id) : (this.transactions[block - 1]?.hash ?? "");
  }

  /** Calls `wake` whenever a block is published, until the returned function is called. */
  watch(wake: () => void): () => void {
    this.watchers.add(wake);
    return () => this.watchers.delete(wake);
  }
}

function digest(text: string): string {
  return `0x${createHash("sha256").update(text).digest("hex")}`;
}

/** Name of the contract in a location, `{"contract":"…"}`. Contracts come into being by their first use. */
export function parseLocation(text: string): string {
  let found: unknown;
  try {
    found = JSON.parse(text);
  } catch {
    // Told below.
  }
  const name = (found as { contract?: unknown } | null | undefined)?.contract;
  if (typeof name !== "string" || !/^[a-z0-9][a-z0-9_.-]{0,62}$/i.test(name)) {
    throw invalid('A location is {"contract":"name"}', "INVALID_LOCATION");
  }
  return name.toLowerCase();
}

export function locationOf(contract: string): string {
  return JSON.stringify({ contract });
}
