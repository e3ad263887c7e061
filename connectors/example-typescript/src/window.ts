/**
 * Which batch may be sent next: numbering, window, acks, nacks. Pure: no clock, no input or output.
 *
 * EVT-002 numbers without gaps, sent again in order; EVT-004 cumulative acks; EVT-005 never more than
 * the window unacked, in batches and in bytes.
 */
import { invalid } from "./errors.js";
import type { Batch } from "./gen/photinus/connector/v1/Batch.js";

export interface Sent {
  seq: number;
  batch: Batch;
  /** At least its bytes on the wire. */
  bytes: number;
  /** Number of the last operation update in it; 0 for none. */
  updatesThrough: number;
}

export class Window {
  lastSeq = 0;
  ackedSeq = 0;
  private unacked: Sent[] = [];
  private again: Sent[] = [];

  constructor(
    readonly batchesMax: number,
    readonly bytesMax: number,
  ) {}

  /** Everything sent is acked. */
  get empty(): boolean {
    return this.unacked.length === 0;
  }

  /** Bytes a new batch may have now; 0 while none may be sent. */
  get room(): number {
    if (this.unacked.length >= this.batchesMax || this.again.length > 0) return 0;
    return this.bytesMax - this.unacked.reduce((sum, sent) => sum + sent.bytes, 0);
  }

  /** Counts a new batch as sent. */
  add(sent: Sent): void {
    this.lastSeq = sent.seq;
    this.unacked.push(sent);
  }

  /** Forgets batches up to `seq`; gives the number of the last update in them, 0 for none. */
  ack(seq: number): number {
    this.check(seq);
    const acked = this.unacked.filter((sent) => sent.seq <= seq);
    this.unacked = this.unacked.filter((sent) => sent.seq > seq);
    this.again = this.again.filter((sent) => sent.seq > seq);
    this.ackedSeq = Math.max(this.ackedSeq, seq);
    return Math.max(0, ...acked.map((sent) => sent.updatesThrough));
  }

  /** From `seq` on everything is to be sent again before anything new. */
  nack(seq: number): void {
    this.check(seq);
    this.again = this.unacked.filter((sent) => sent.seq >= seq);
  }

  /** The next batch to send again. */
  takeAgain(): Batch | undefined {
    return this.again.shift()?.batch;
  }

  private check(seq: number): void {
    if (seq > this.lastSeq) {
      const message = `Batch ${seq} is answered, but only ${this.lastSeq} were sent`;
      throw invalid(message, "BEYOND_SENT");
    }
  }
}
