/**
 * One listener of a stream: a cursor on the ledger.
 *
 * The core keeps the position, as a checkpoint of ours: block number and hash, so that a ledger which
 * is not the one of that checkpoint is noticed.
 */
import { invalid } from "./errors.js";
import type { Event } from "./gen/photinus/connector/v1/Event.js";
import type { Listener__Output } from "./gen/photinus/connector/v1/Listener.js";
import { locationOf, parseLocation, type Ledger, type Transaction } from "./ledger.js";

export const CONTRACT_VERSION = 2;
const SOURCE = "memory-ledger";

/** A checkpoint that this ledger cannot go on from. */
export class CheckpointLost extends Error {}

export class Listener {
  readonly id: string;
  /** Last block that was looked at. */
  block: number;
  /** Last batch that holds an event of it. */
  lastSeq = 0;
  /** Last block the core has been told of. */
  toldBlock: number;
  private readonly contract: string;

  /** Throws Refusal or CheckpointLost when it cannot work. */
  constructor(
    asked: Listener__Output,
    private readonly ledger: Ledger,
  ) {
    this.id = asked.id;
    if (asked.filter !== "multiparty" || !asked.multiparty) {
      throw invalid("Only multiparty contracts can be listened to", "UNKNOWN_FILTER");
    }
    if (asked.multiparty.version !== CONTRACT_VERSION) {
      throw invalid(`Contracts here have version ${CONTRACT_VERSION}`, "UNKNOWN_VERSION");
    }
    this.contract = parseLocation(asked.multiparty.locationJson);
    this.block = asked.resume.length
      ? readCheckpoint(asked.resume, ledger)
      : readFirstEvent(asked.firstEvent, ledger);
    this.toldBlock = this.block;
  }

  /** Events behind `block`, each with the block it stands in; the caller moves `block`. */
  *events(): Generator<{ block: number; event: Event }> {
    for (let block = this.block + 1; block <= this.ledger.head; block++) {
      const transaction = this.ledger.at(block);
      if (transaction.contract === this.contract) {
        yield { block, event: eventOf(transaction, this.id) };
      }
    }
  }

  checkpoint(block: number): Buffer {
    return Buffer.from(`${block}/${this.ledger.hashOf(block)}`);
  }
}

function readCheckpoint(bytes: Buffer, ledger: Ledger): number {
  const found = /^(\d{1,15})\/(0x[0-9a-f]{64})$/.exec(bytes.toString("latin1"));
  if (found === null) throw new CheckpointLost("It is no checkpoint of this connector");
  const block = Number(found[1]);
  if (block > ledger.head || ledger.hashOf(block) !== found[2]) {
    throw new CheckpointLost(`Block ${block} of that hash is not part of this ledger`);
  }
  return block;
}

function readFirstEvent(text: string, ledger: Ledger): number {
  if (text === "" || text === "oldest") return 0;
  if (text === "newest") return ledger.head;
  if (/^\d{1,15}$/.test(text)) return Math.max(0, Number(text) - 1);
  throw invalid("first_event is oldest, newest or a block number", "INVALID_FIRST_EVENT");
}

function eventOf(transaction: Transaction, listenerId: string): Event {
  const { block, hash, contract, signer, body } = transaction;
  const protocolId = `${String(block).padStart(12, "0")}/000000/000000`;
  const name = body.kind === "pin" ? "BatchPin" : "NetworkAction";
  const { kind: _, ...output } = body;
  const chain = {
    position: { block },
    protocolId,
    transactionId: hash,
    name,
    locationJson: locationOf(contract),
    signature: name,
    outputJson: JSON.stringify({ author: signer, ...output }),
    infoJson: JSON.stringify({ block, transactionHash: hash }),
    timestamp: toTimestamp(transaction.time),
    signer,
    source: SOURCE,
  };
  const id = `${protocolId}/${listenerId}`;
  return body.kind === "pin"
    ? { id, listenerId, batchPin: { chain, ...output } }
    : { id, listenerId, networkAction: { chain, ...output } };
}

export function toTimestamp(milliseconds: number): { seconds: number; nanos: number } {
  return { seconds: Math.floor(milliseconds / 1000), nanos: (milliseconds % 1000) * 1e6 };
}
