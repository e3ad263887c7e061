/**
 * The protocol: service definitions to serve, and codecs of the messages that are packed by hand.
 *
 * proto-loader reads the .proto files themselves at start and writes their types into `gen/` when we
 * build, so that there is no generated code to keep and the compiler still knows every field.
 */
import { fileURLToPath } from "node:url";
import type { ServiceDefinition } from "@grpc/grpc-js";
import { loadSync, type MessageTypeDefinition } from "@grpc/proto-loader";

export const PACKAGE = "photinus.connector.v1";

const FOLDER = fileURLToPath(new URL("../proto", import.meta.url));

export const definitions = loadSync(
  [
    ...["connector", "blockchain", "event", "operation"].map(
      (name) => `photinus/connector/v1/${name}.proto`,
    ),
    "google/rpc/error_details.proto",
  ],
  // 64-bit numbers as text (epochs do not fit a double), enums by name, `frame` naming a oneof's member.
  { includeDirs: [FOLDER], longs: String, enums: String, defaults: true, oneofs: true },
);

export function service(name: string): ServiceDefinition {
  return definitions[`${PACKAGE}.${name}`] as ServiceDefinition;
}

/** Encodes a message by its full name. */
export function encode(name: string, message: object): Buffer {
  return (definitions[name] as MessageTypeDefinition<object, object>).serialize(message);
}
