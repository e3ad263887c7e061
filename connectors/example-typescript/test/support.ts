/** What several tests use: stores in temporary folders, and a stream without a network. */
import { EventEmitter } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { TestContext } from "node:test";
import type { Listener__Output } from "../src/gen/photinus/connector/v1/Listener.js";
import type { StreamRequest__Output } from "../src/gen/photinus/connector/v1/StreamRequest.js";
import type { StreamResponse } from "../src/gen/photinus/connector/v1/StreamResponse.js";
import type { Content } from "../src/ledger.js";
import { Session, type Call } from "../src/session.js";
import { Store, type StreamState } from "../src/store.js";

export const INSTANCE = "alice";
export const STREAM = '["cluster","alpha","core"]';
const CONTRACT = "firefly";

export async function folderOf(test: TestContext): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), "memory-ledger-test-"));
  test.after(() => rm(folder, { recursive: true }));
  return folder;
}

/** A store that is closed with the test. */
export async function openStore(test: TestContext, folder: string): Promise<Store> {
  const store = await Store.open(folder, (error) => {
    throw error;
  });
  test.after(() => store.close());
  await store.instance(INSTANCE);
  return store;
}

export function content(payload: string, contract = CONTRACT): Content {
  const signer = `0x${"1".repeat(40)}`;
  return { signer, contract, time: 1000, body: { kind: "action", action: "test", payload } };
}

/** Submits transactions, one for each payload. */
export async function submit(store: Store, payloads: string[], contract?: string): Promise<void> {
  for (const payload of payloads) {
    const entry = { instance: INSTANCE, stream: '["","","others"]', method: "m", digest: "d" };
    await store.operate({
      ...entry,
      key: payload,
      time: 1000,
      content: content(payload, contract),
    });
  }
}

export function listener(id: string, fields: Partial<Listener__Output> = {}): Listener__Output {
  const multiparty = { locationJson: `{"contract":"${CONTRACT}"}`, version: 2, optionsJson: "" };
  const usual = { id, filter: "multiparty", multiparty, firstEvent: "oldest" } as const;
  return { ...usual, resume: Buffer.alloc(0), ...fields };
}

/** The core's side of a stream: frames as they were written, and a connection that may be full. */
export class Core extends EventEmitter {
  readonly frames: StreamResponse[] = [];
  readonly failures: unknown[] = [];
  full = false;
  ended = false;
  readonly session: Session;

  constructor(
    store: Store,
    state: StreamState,
    listeners: Listener__Output[],
    limits: { windowBatches?: number; batchSize?: number; batchTimeoutMs?: number } = {},
    windowBytes = 1 << 20,
  ) {
    super();
    const open = {
      stream: null,
      ownerEpoch: "1",
      networkNamespace: "net",
      listeners,
      windowBatches: 8,
      windowBytes: String(windowBytes),
      batchSize: 10,
      batchTimeoutMs: 0,
      ...limits,
    };
    const acked = (through: number): void => store.acked(INSTANCE, STREAM, through);
    this.session = new Session(
      this as unknown as Call,
      open,
      { ledger: store.ledger, state, acked },
      (error) => this.failures.push(error),
    );
    this.session.begin();
  }

  write(frame: StreamResponse): boolean {
    this.frames.push(frame);
    return !this.full;
  }

  end(): void {
    this.ended = true;
  }

  send(frame: Omit<StreamRequest__Output, "frame">): void {
    const [name] = Object.keys(frame) as [NonNullable<StreamRequest__Output["frame"]>];
    this.session.take({ ...frame, frame: name });
  }

  ack(seq: number): void {
    this.send({ ack: { throughSeq: String(seq), receipts: [] } });
  }

  /** Payloads of the network actions in each batch so far. */
  get batches(): string[][] {
    return this.frames
      .filter((frame) => frame.batch)
      .map((frame) => (frame.batch?.events ?? []).map((e) => e.networkAction?.payload ?? "update"));
  }

  /** Which kinds of frames came. */
  get kinds(): string[] {
    return this.frames.flatMap((frame) => Object.keys(frame));
  }
}
