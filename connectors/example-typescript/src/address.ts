/** Where the connector may listen: a unix socket in a private directory, or TCP on loopback. */
import { chmod, mkdir, mkdtemp, rm, stat } from "node:fs/promises";
import { connect, createServer, type Server } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { createHash } from "node:crypto";

const PATH_BYTES_MAX = 100;

/** Why the connector cannot start; one line for the operator. */
export class StartError extends Error {}

/** The address to bind; `unix:…` in a directory of our own when none is given. */
export async function prepare(address: string, insecure: boolean): Promise<string> {
  if (!address) return `unix:${await mkdtemp(join(tmpdir(), "photinus-"))}/connector.sock`;
  if (address.startsWith("unix:")) return `unix:${await preparePath(address.slice(5))}`;
  const host = /^(.+):\d{1,5}$/.exec(address)?.[1] ?? "";
  if (!/^(localhost|127(\.\d{1,3}){3}|\[::1\])$/.test(host)) {
    throw new StartError(`${address} is neither unix:/path nor a port on loopback`);
  }
  if (!insecure) throw new StartError("TCP is open to every user of this machine: add --insecure");
  return address;
}

async function preparePath(given: string): Promise<string> {
  const path = resolve(given);
  if (Buffer.byteLength(path) > PATH_BYTES_MAX) {
    throw new StartError(`${path} is longer than ${PATH_BYTES_MAX} bytes`);
  }
  const folder = dirname(path);
  await mkdir(folder, { recursive: true, mode: 0o700 });
  if ((await stat(folder)).mode & 0o077) {
    throw new StartError(`${folder} is open to others; type: chmod 700 ${folder}`);
  }
  const found = await stat(path).catch(() => undefined);
  if (found !== undefined) {
    if (!found.isSocket()) throw new StartError(`${path} exists and is no socket`);
    if (await isServed(path)) throw new StartError(`Another process serves ${path}`);
    await rm(path);
  }
  return path;
}

function isServed(path: string): Promise<boolean> {
  return new Promise((answer) => {
    const probe = connect(path, () => {
      probe.destroy();
      answer(true);
    });
    probe.on("error", () => answer(false));
  });
}

/** Takes the rights of others from a bound socket. */
export async function keepPrivate(address: string): Promise<void> {
  if (address.startsWith("unix:")) await chmod(address.slice(5), 0o600);
}

/** Removes a socket that is served no more, and the directory that was made for it. */
export async function remove(address: string, given: string): Promise<void> {
  if (!address.startsWith("unix:")) return;
  await rm(given ? address.slice(5) : dirname(address.slice(5)), { recursive: true, force: true });
}

/**
 * Takes a directory for this process alone, by a name that Linux forgets with the process; elsewhere
 * nothing guards it.
 */
export async function lock(folder: string): Promise<Server | undefined> {
  if (process.platform !== "linux") return undefined;
  const name = createHash("sha256").update(resolve(folder)).digest("hex");
  const server = createServer((socket) => socket.destroy());
  return new Promise((done, fail) => {
    server.on("error", (error: NodeJS.ErrnoException) => {
      if (error.code !== "EADDRINUSE") done(undefined);
      else fail(new StartError(`Another process uses ${folder}`));
    });
    server.listen(`\0photinus-memory-ledger-${name.slice(0, 32)}`, () => done(server));
  });
}
