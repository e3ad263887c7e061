// Compiles the contracts and writes artifacts/<Name>.json (ABI, byte code, compiler, settings), or with --check
// compares with what is there. Reproducible: the compiler is pinned, no metadata hash is appended, and source
// names are relative, so that the same sources give the same bytes on every machine.
"use strict";

const fs = require("fs");
const path = require("path");
const { createRequire } = require("module");

const SOLC_VERSION = "0.8.37";
const root = path.resolve(__dirname, "..");

// The compiler may be installed here or in a tool folder shared by the repository.
function loadSolc() {
  const places = [process.env.PHOTINUS_NPM_DIR, root].filter(Boolean);
  for (const place of places) {
    try {
      return createRequire(path.join(path.resolve(place), "package.json"))("solc");
    } catch (error) {
      if (error.code !== "MODULE_NOT_FOUND") throw error;
    }
  }
  throw new Error(`solc ${SOLC_VERSION} not found in: ${places.join(", ")} (npm ci, or set PHOTINUS_NPM_DIR)`);
}

const settings = {
  // Chains of members may be older than the compiler's newest target.
  evmVersion: "paris",
  optimizer: { enabled: true, runs: 1000 },
  metadata: { appendCBOR: false, bytecodeHash: "none" },
  outputSelection: { "*": { "*": ["abi", "evm.bytecode.object"] } },
};

const sources = {};
for (const folder of ["src", "test-contracts"]) {
  for (const file of fs.readdirSync(path.join(root, folder)).sort()) {
    if (file.endsWith(".sol")) {
      sources[`${folder}/${file}`] = { content: fs.readFileSync(path.join(root, folder, file), "utf8") };
    }
  }
}

const solc = loadSolc();
const output = JSON.parse(solc.compile(JSON.stringify({ language: "Solidity", sources, settings })));
const errors = (output.errors || []).filter((e) => e.severity === "error");
if (errors.length || !solc.version().startsWith(SOLC_VERSION)) {
  console.error(errors.map((e) => e.formattedMessage).join("\n") || `wrong compiler ${solc.version()}`);
  process.exit(1);
}

let stale = 0;
for (const [source, contracts] of Object.entries(output.contracts)) {
  for (const [name, contract] of Object.entries(contracts)) {
    if (!contract.evm.bytecode.object) continue; // an interface
    const artefact = {
      contractName: name,
      source,
      compiler: solc.version().replace(/\.Emscripten.*$/, ""),
      settings: { evmVersion: settings.evmVersion, optimizer: settings.optimizer, metadata: settings.metadata },
      abi: contract.abi,
      bytecode: `0x${contract.evm.bytecode.object}`,
    };
    const target = path.join(root, "artifacts", `${name}.json`);
    const text = `${JSON.stringify(artefact, null, 2)}\n`;
    if (!process.argv.includes("--check")) {
      fs.mkdirSync(path.dirname(target), { recursive: true });
      fs.writeFileSync(target, text);
    } else if (!fs.existsSync(target) || fs.readFileSync(target, "utf8") !== text) {
      console.error(`${path.relative(root, target)} does not come from its source: run npm run compile`);
      stale += 1;
    }
  }
}
process.exit(stale ? 1 : 0);
