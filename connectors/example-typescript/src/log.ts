/** Log lines, JSON on standard error: standard output belongs to the handshake. */

/** Never give it settings or requests as they are: they may hold secrets. */
export function log(
  level: "info" | "warning" | "error",
  message: string,
  fields: Record<string, unknown> = {},
): void {
  const line = { time: new Date().toISOString(), level, message, ...fields };
  process.stderr.write(`${JSON.stringify(line)}\n`);
}
