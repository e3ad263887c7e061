/**
 * One open event stream.
 *
 * Nothing is queued: events are read from the ledger, and updates from the store, at the moment in
 * which the window has room for a batch. A core that is behind costs nothing but its place.
 */
import { status, type ServerDuplexStream } from "@grpc/grpc-js";
import { invalid, Refusal, toStatus } from "./errors.js";
import type { Event } from "./gen/photinus/connector/v1/Event.js";
import type { Listener__Output } from "./gen/photinus/connector/v1/Listener.js";
import type { Open__Output } from "./gen/photinus/connector/v1/Open.js";
import type { Progress } from "./gen/photinus/connector/v1/Progress.js";
import type { StreamRequest__Output } from "./gen/photinus/connector/v1/StreamRequest.js";
import type { StreamResponse } from "./gen/photinus/connector/v1/StreamResponse.js";
import type { Ledger } from "./ledger.js";
import { CheckpointLost, Listener } from "./listener.js";
import { updateOf } from "./operations.js";
import { encode, PACKAGE } from "./protos.js";
import type { StreamState } from "./store.js";
import { Window } from "./window.js";

const WINDOW_BATCHES_MAX = 1024;
const WINDOW_BYTES_MIN = 64 << 10;
const WINDOW_BYTES_MAX = 64 << 20;
const BATCH_BYTES_MAX = 2 << 20; // a frame stays below 4 MiB
const BATCH_SIZE_MAX = 1000;
const BATCH_SIZE_DEFAULT = 50;
const BATCH_TIMEOUT_MAX_MS = 10_000;
const LISTENERS_MAX = 1000;
const LISTENER_ID_BYTES_MAX = 200; // an event's id holds it, and has 256 at most
const PROGRESS_INTERVAL_MS = 5000;
const RETRY_AFTER_MAX_MS = 60_000;
const FIELD_BYTES = 16; // more than tags and lengths of an entry take

export type Call = ServerDuplexStream<StreamRequest__Output, StreamResponse>;

/** What a session needs of the instance it belongs to. */
export interface Surroundings {
  ledger: Ledger;
  state: StreamState;
  /** Updates up to a number are stored by the core. */
  acked: (through: number) => void;
}

export class Session {
  /** Resolves when the stream has ended, however it did. */
  readonly closed: Promise<void>;
  private readonly window: Window;
  private readonly batchSize: number;
  private readonly batchTimeoutMs: number;
  private readonly listeners = new Map<string, Listener>();
  private readonly told: StreamResponse[] = [];
  private readonly timers = new Set<NodeJS.Timeout>();
  private unwatch: () => void = () => undefined;
  private resolveClosed: () => void = () => undefined;
  private begun = false;
  private blocked = false;
  private draining = false;
  private over = false;
  private paused: NodeJS.Timeout | undefined;
  private filling: NodeJS.Timeout | "due" | undefined;
  private updatesSent = 0;
  private readonly wake = (): void => this.pump();

  constructor(
    private readonly call: Call,
    open: Open__Output,
    private readonly around: Surroundings,
    private readonly fail: (error: unknown) => void,
  ) {
    if (!open.windowBatches || Number(open.windowBytes) < WINDOW_BYTES_MIN) {
      const message = `The window needs a batch and ${WINDOW_BYTES_MIN} bytes`;
      throw invalid(message, "WINDOW_TOO_SMALL");
    }
    this.window = new Window(
      Math.min(open.windowBatches, WINDOW_BATCHES_MAX),
      Math.min(Number(open.windowBytes), WINDOW_BYTES_MAX),
    );
    this.batchSize = Math.min(open.batchSize || BATCH_SIZE_DEFAULT, BATCH_SIZE_MAX);
    this.batchTimeoutMs = Math.min(open.batchTimeoutMs, BATCH_TIMEOUT_MAX_MS);
    this.closed = new Promise((resolve) => (this.resolveClosed = resolve));
    for (const listener of open.listeners) this.addListener(listener);
    call.on("drain", () => {
      this.blocked = false;
      this.pump();
    });
  }

  /** Sends Opened, and then what there is. The epoch must be durable by now. */
  begin(): void {
    if (this.over) return;
    const positions = [...this.listeners].map(([id, { block }]) => [id, { block }] as const);
    this.write({
      opened: {
        windowBatches: this.window.batchesMax,
        windowBytes: this.window.bytesMax,
        batchSize: this.batchSize,
        positions: Object.fromEntries(positions),
      },
    });
    const every = setInterval(() => {
      if (!this.blocked) this.told.push({ progress: this.progress() });
      this.pump();
    }, PROGRESS_INTERVAL_MS);
    this.timers.add(every);
    this.unwatch = this.around.ledger.watch(this.wake);
    this.around.state.onUpdate = this.wake;
    this.begun = true;
    this.pump();
  }

  /** Takes a frame of the core. Throws Refusal for one that ends the stream. */
  take(frame: StreamRequest__Output): void {
    if (this.over) return;
    switch (frame.frame) {
      case "ack": {
        const through = this.window.ack(Number(frame.ack?.throughSeq));
        if (through) this.around.acked(through);
        break;
      }
      case "nack":
        this.window.nack(Number(frame.nack?.seq));
        this.pause(Math.min(frame.nack?.retryAfterMs ?? 0, RETRY_AFTER_MAX_MS));
        break;
      case "addListener":
        if (frame.addListener?.listener) this.addListener(frame.addListener.listener);
        break;
      case "removeListener":
        this.listeners.delete(frame.removeListener?.listenerId ?? "");
        break;
      case "drain":
        this.drain();
        break;
      case "open":
        throw invalid("A second Open", "BAD_FRAME");
      default:
        // Of a later minor version: what must be heard is announced in Describe.
        break;
    }
    this.pump();
  }

  /** Sends nothing new; Drained follows when all that was sent is acked. */
  drain(): void {
    this.draining = true;
    this.pump();
  }

  /** Ends the stream because another one takes its place (EVT-006). */
  supersede(epoch: bigint): void {
    this.end({ superseded: { ownerEpoch: epoch.toString() } });
  }

  /** Ends the stream although not everything is acked. */
  abandon(): void {
    if (this.over) return;
    this.fail(new Refusal(status.UNAVAILABLE, "DRAINING", "The connector is being stopped"));
  }

  /** Forgets the stream; who calls has ended it, or found it ended. */
  close(): void {
    if (this.over) return;
    this.over = true;
    for (const timer of this.timers) clearTimeout(timer);
    this.unwatch();
    if (this.around.state.onUpdate === this.wake) this.around.state.onUpdate = () => undefined;
    this.resolveClosed();
  }

  private end(last: StreamResponse): void {
    if (this.over) return;
    this.close();
    this.call.write(last);
    this.call.end();
  }

  private write(frame: StreamResponse): void {
    this.blocked = !this.call.write(frame);
  }

  /** Sends whatever may be sent now; called whenever that may have changed. */
  private pump(): void {
    while (this.begun && !this.over && !this.blocked) {
      const frame = this.told.shift() ?? this.nextBatch();
      if (frame === undefined) break;
      this.write(frame);
    }
    if (this.begun && this.draining && this.window.empty) {
      this.end({ drained: { lastSeq: this.window.lastSeq } });
    }
  }

  private nextBatch(): StreamResponse | undefined {
    if (this.paused !== undefined) return undefined;
    const again = this.window.takeAgain();
    if (again !== undefined) return { batch: again };
    const room = Math.min(this.window.room, BATCH_BYTES_MAX);
    if (this.draining || room <= 0) return undefined;
    return this.cut(new Draft(this.batchSize, room));
  }

  /** Fills a draft from all sources, and sends it unless it may wait for more. */
  private cut(draft: Draft): StreamResponse | undefined {
    let updatesThrough = 0;
    for (const { number, operation } of this.around.state.updates) {
      if (number <= this.updatesSent) continue;
      if (!draft.add(updateOf(operation, number))) break;
      updatesThrough = number;
    }
    const moves: (() => void)[] = [];
    const seq = this.window.lastSeq + 1;
    for (const listener of this.listeners.values()) {
      if (draft.full) break;
      moves.push(this.fill(draft, listener, seq));
    }
    if (draft.events.length && !draft.full && this.waitsForMore()) return undefined;
    for (const move of moves) move();
    if (!draft.events.length) return this.told.shift();
    this.filling = undefined;
    this.updatesSent = Math.max(this.updatesSent, updatesThrough);
    const batch = { seq, events: draft.events, checkpoints: draft.checkpoints };
    this.window.add({ seq, batch, bytes: draft.bytes, updatesThrough });
    return { batch };
  }

  /** Adds what fits of a listener; gives the function that moves it once the draft is sent. */
  private fill(draft: Draft, listener: Listener, seq: number): () => void {
    let block = this.around.ledger.head;
    let sent = 0;
    for (const found of listener.events()) {
      if (!draft.add(found.event, listener.checkpoint(found.block))) {
        block = found.block - 1;
        if (!draft.events.length && this.window.empty) this.refuse(listener, found.block);
        break;
      }
      sent = found.block;
    }
    return () => {
      listener.block = Math.max(listener.block, block);
      if (!sent) return;
      listener.lastSeq = seq;
      listener.toldBlock = sent;
      // To the end of the line, so that one with much to tell does not keep others waiting.
      if (this.listeners.delete(listener.id)) this.listeners.set(listener.id, listener);
    };
  }

  /** An event that no window of this stream can hold: the listener stops in front of it. */
  private refuse(listener: Listener, block: number): void {
    const message = `The event in block ${block} is larger than the window`;
    this.tell(listener.id, new Refusal(status.RESOURCE_EXHAUSTED, "EVENT_TOO_LARGE", message));
    this.listeners.delete(listener.id);
  }

  /** Whether an incomplete batch is to wait; from its first event on, but not longer than asked. */
  private waitsForMore(): boolean {
    if (!this.batchTimeoutMs || this.filling === "due") return false;
    this.filling ??= this.later(this.batchTimeoutMs, () => (this.filling = "due"));
    return true;
  }

  private pause(milliseconds: number): void {
    if (this.paused !== undefined) {
      clearTimeout(this.paused);
      this.timers.delete(this.paused);
    }
    this.paused = this.later(milliseconds, () => (this.paused = undefined));
  }

  private later(milliseconds: number, act: () => void): NodeJS.Timeout {
    const timer = setTimeout(() => {
      this.timers.delete(timer);
      act();
      this.pump();
    }, milliseconds);
    this.timers.add(timer);
    return timer;
  }

  private addListener(asked: Listener__Output): void {
    try {
      if (!asked.id || Buffer.byteLength(asked.id) > LISTENER_ID_BYTES_MAX) {
        throw invalid(
          `A listener's id has 1 to ${LISTENER_ID_BYTES_MAX} bytes`,
          "INVALID_LISTENER",
        );
      }
      if (this.listeners.has(asked.id)) {
        throw invalid("A listener of this id is there already", "LISTENER_EXISTS");
      }
      if (this.listeners.size >= LISTENERS_MAX) {
        const message = `A stream has at most ${LISTENERS_MAX} listeners`;
        throw new Refusal(status.RESOURCE_EXHAUSTED, "TOO_MANY_LISTENERS", message);
      }
      this.listeners.set(asked.id, new Listener(asked, this.around.ledger));
    } catch (error) {
      this.tell(asked.id, error);
    }
  }

  /** EVT-007: a listener that fails is told apart from the others. */
  private tell(listenerId: string, error: unknown): void {
    if (error instanceof CheckpointLost) {
      const oldest = { block: 1 };
      this.told.push({ checkpointInvalid: { listenerId, oldest, reason: error.message } });
    } else {
      this.told.push({ listenerError: { listenerId, status: toStatus(error) } });
    }
  }

  /** Positions that pass no unacked event, so that a quiet listener need not be read again from far behind. */
  private progress(): Progress {
    const checkpoints: Record<string, Buffer> = {};
    const finalBlocks: Record<string, number> = {};
    let catchingUp = false;
    for (const [id, listener] of this.listeners) {
      catchingUp ||= listener.block < this.around.ledger.head;
      if (listener.lastSeq > this.window.ackedSeq) continue;
      finalBlocks[id] = Math.min(listener.block, this.around.ledger.head);
      if (listener.block > listener.toldBlock) {
        checkpoints[id] = listener.checkpoint(listener.block);
        listener.toldBlock = listener.block;
      }
    }
    return { checkpoints, finalBlocks, catchingUp };
  }
}

/** A batch while it is filled, within its limits. */
class Draft {
  readonly events: Event[] = [];
  readonly checkpoints: Record<string, Buffer> = {};
  bytes = FIELD_BYTES;
  full = false;

  constructor(
    private readonly size: number,
    private readonly room: number,
  ) {}

  /** Takes an event, with the checkpoint behind it where it is a listener's; false when it does not fit. */
  add(event: Event, checkpoint?: Buffer): boolean {
    const name = event.listenerId ?? "";
    const behind = checkpoint ? checkpoint.length + Buffer.byteLength(name) + FIELD_BYTES : 0;
    const bytes = encode(`${PACKAGE}.Event`, event).length + FIELD_BYTES + behind;
    if (this.events.length >= this.size || this.bytes + bytes > this.room) {
      this.full = true;
      return false;
    }
    this.events.push(event);
    this.bytes += bytes;
    this.full = this.events.length === this.size;
    if (checkpoint) this.checkpoints[name] = checkpoint;
    return true;
  }
}
