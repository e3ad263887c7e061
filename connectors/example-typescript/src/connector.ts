/** ConnectorService: what this connector is, and its instances. */
import { readFileSync } from "node:fs";
import { toResponse, invalid } from "./errors.js";
import { unary } from "./calls.js";
import type { ConnectorServiceHandlers } from "./gen/photinus/connector/v1/ConnectorService.js";
import type { Contract } from "./gen/photinus/connector/v1/Contract.js";
import type { DescribeResponse } from "./gen/photinus/connector/v1/DescribeResponse.js";
import type { Instances } from "./instances.js";
import { log } from "./log.js";
import { CONFIG_SCHEMA, readSettings } from "./settings.js";

export const NAME = "memory-ledger";
// An event holds it twice, as fields and as JSON for people, and stays below a frame's 4 MiB.
export const MESSAGE_BYTES_MAX = 512 << 10;
const DRAIN_GRACE_MS = 10_000;

const { version } = JSON.parse(
  readFileSync(new URL("../../package.json", import.meta.url), "utf8"),
) as { version: string };

const CONTRACTS: Contract[] = [
  {
    kind: "CONTRACT_KIND_BLOCKCHAIN",
    capabilities: ["CAPABILITY_OPERATIONS", "CAPABILITY_EVENTS", "CAPABILITY_MULTIPARTY"],
    // Keys are never forgotten: no limit of the retention.
    limits: { maxMessageBytes: MESSAGE_BYTES_MAX },
  },
];

const DESCRIPTION: DescribeResponse = {
  name: NAME,
  version,
  vendor: "The Photinus authors",
  docsUrl: "https://github.com/photinus-project/photinus/tree/main/connectors/example-typescript",
  stability: "STABILITY_ALPHA",
  protocols: ["v1"],
  contracts: CONTRACTS,
  configSchemaJson: JSON.stringify(CONFIG_SCHEMA),
  multiInstance: true,
  build: { language: `TypeScript on Node ${process.versions.node}` },
};

export function connectorService(instances: Instances): ConnectorServiceHandlers {
  return {
    Describe: unary(() => DESCRIPTION),

    Validate: unary(({ configJson }) => ({ diagnostics: readSettings(configJson).diagnostics })),

    Configure: unary(async ({ instance, configJson, revision }) => {
      const { settings, diagnostics } = readSettings(configJson);
      if (settings === undefined) {
        const found = diagnostics.map(({ summary, pointer }) => `${pointer || "/"}: ${summary}`);
        throw invalid(found.join("; "), "INVALID_CONFIG");
      }
      const made = await instances.configure(instance, settings, BigInt(revision));
      return { contracts: CONTRACTS, storeId: made.storeId, diagnostics };
    }),

    NotifyRegistration: unary(({ instance, accepted, reason }) => {
      if (accepted) log("info", "the core uses this connector", { instance });
      else log("error", "the core refused this connector", { instance, reason });
      return {};
    }),

    WatchStatus: (call) => {
      try {
        instances.of(call).watch(call);
      } catch (error) {
        call.emit("error", toResponse(error));
      }
    },

    Drain: unary(async ({ graceS }, call) => {
      await instances.of(call).drain(graceS ? graceS * 1000 : DRAIN_GRACE_MS);
      return {};
    }),
  };
}
