/** What the connector answers when it cannot do what is asked, and the form of that on the wire. */
import { Metadata, status, type ServerErrorResponse } from "@grpc/grpc-js";
import type { Any } from "./gen/google/protobuf/Any.js";
import type { Status } from "./gen/google/rpc/Status.js";
import { log } from "./log.js";
import { encode, PACKAGE } from "./protos.js";

const MESSAGE_BYTES_MAX = 2048;
const HEADLINE_BYTES_MAX = 512; // sent percent-encoded, which may triple it
const RETRY_AFTER_S = 1;

/**
 * A call refused before it had any effect: the core fails the operation, or sends it again.
 * Whatever else is thrown is a defect of ours, and the core has to ask what became of the call.
 */
export class Refusal extends Error {
  constructor(
    readonly code: status,
    readonly reason: string,
    message: string,
  ) {
    super(message);
  }
}

export function invalid(message: string, reason = "INVALID_INPUTS"): Refusal {
  return new Refusal(status.INVALID_ARGUMENT, reason, message);
}

/** `google.rpc.Status` of an error, with ErrorInfo and SubmissionDetail. */
export function toStatus(error: unknown): Status & { code: status; message: string } {
  const refusal = error instanceof Refusal ? error : unexpected(error);
  const sent = error instanceof Refusal ? "DISPOSITION_NOT_SENT" : "DISPOSITION_MAYBE_SENT";
  const details = [
    packed("google.rpc.ErrorInfo", { domain: PACKAGE, reason: refusal.reason }),
    packed(`${PACKAGE}.SubmissionDetail`, { disposition: sent }),
  ];
  if (refusal.code === status.UNAVAILABLE) {
    details.push(packed("google.rpc.RetryInfo", { retryDelay: { seconds: RETRY_AFTER_S } }));
  }
  return { code: refusal.code, message: cut(refusal.message, MESSAGE_BYTES_MAX), details };
}

/** An error in the form in which grpc-js ends a call. */
export function toResponse(error: unknown): ServerErrorResponse {
  const found = toStatus(error);
  const metadata = new Metadata();
  metadata.set("grpc-status-details-bin", encode("google.rpc.Status", found));
  const details = cut(found.message, HEADLINE_BYTES_MAX);
  return Object.assign(new Error(details), { code: found.code, details, metadata });
}

function unexpected(error: unknown): Refusal {
  // Its text may quote anything: it goes to our own log only.
  log("error", "unexpected error", { trace: error instanceof Error ? error.stack : String(error) });
  return new Refusal(status.INTERNAL, "INTERNAL", "Unexpected error; see the connector's log");
}

function packed(name: string, message: object): Any {
  return { type_url: `type.googleapis.com/${name}`, value: encode(name, message) };
}

/** The text, or as much of it as fits `limit` bytes of UTF-8. */
export function cut(text: string, limit: number): string {
  const bytes = Buffer.from(text);
  if (bytes.length <= limit) return text;
  return `${new TextDecoder().decode(bytes.subarray(0, limit - 6)).replace(/\uFFFD$/, "")}…`;
}
