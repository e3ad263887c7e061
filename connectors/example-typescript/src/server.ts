/** The gRPC server: services, health, reflection; how it begins and ends. */
import { Server, ServerCredentials } from "@grpc/grpc-js";
import { ReflectionService } from "@grpc/reflection";
import { HealthImplementation } from "grpc-health-check";
import { keepPrivate, lock, prepare, remove } from "./address.js";
import { blockchainService } from "./blockchain.js";
import { connectorService } from "./connector.js";
import { eventService } from "./events.js";
import { Instances } from "./instances.js";
import { operationService } from "./operations.js";
import { definitions, PACKAGE, service } from "./protos.js";
import { Store } from "./store.js";

const CLOSE_GRACE_MS = 1000;
const HEALTH_NAMES = ["", `${PACKAGE}.BlockchainService`];

export interface Options {
  /** `unix:/path`, `127.0.0.1:port`, or empty for a socket of our own choice. */
  address: string;
  dataDir: string;
  /** Allows TCP on loopback. */
  insecure: boolean;
  /** Hears that durable state cannot be written: the process must end at once. */
  onFailure: (error: unknown) => void;
}

/** A running connector. */
export interface Running {
  /** What to dial. */
  address: string;
  /** Drains, closes, and removes the socket. */
  stop: (graceMs: number) => Promise<void>;
}

export async function start(options: Options): Promise<Running> {
  const address = await prepare(options.address, options.insecure);
  const guard = await lock(options.dataDir);
  const store = await Store.open(options.dataDir, options.onFailure);
  const instances = new Instances(store);
  const health = new HealthImplementation(
    Object.fromEntries(HEALTH_NAMES.map((name) => [name, "SERVING"])),
  );
  const server = new Server();
  server.addService(service("ConnectorService"), connectorService(instances));
  server.addService(service("OperationService"), operationService(instances));
  server.addService(service("EventService"), eventService(instances));
  server.addService(service("BlockchainService"), blockchainService(instances));
  health.addToServer(server);
  new ReflectionService(definitions).addToServer(server);
  const port = await bind(server, address);
  await keepPrivate(address);
  return {
    address: address.startsWith("unix:") ? address : address.replace(/\d+$/, String(port)),
    stop: async (graceMs) => {
      for (const name of HEALTH_NAMES) health.setStatus(name, "NOT_SERVING");
      await instances.stop(graceMs);
      await close(server);
      await store.close();
      await remove(address, options.address);
      guard?.close();
    },
  };
}

function bind(server: Server, address: string): Promise<number> {
  return new Promise((done, fail) => {
    server.bindAsync(address, ServerCredentials.createInsecure(), (error, port) => {
      if (error) fail(error);
      else done(port);
    });
  });
}

/** Lets calls end, for a while. */
async function close(server: Server): Promise<void> {
  const timer = setTimeout(() => server.forceShutdown(), CLOSE_GRACE_MS);
  await new Promise<void>((done) => server.tryShutdown(() => done()));
  clearTimeout(timer);
}
