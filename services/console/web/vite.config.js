import { createHash } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { join, relative } from "node:path";
import { defineConfig } from "vite";

const here = import.meta.dirname;

/** SHA-256 over the names and contents of everything that decides the built files; `pages.py` computes the same. */
function digest() {
  const walk = (folder) =>
    readdirSync(folder, { withFileTypes: true }).flatMap((entry) =>
      entry.isDirectory() ? walk(join(folder, entry.name)) : [join(folder, entry.name)],
    );
  const loose = ["index.html", "package.json", "package-lock.json", "tsconfig.json", "vite.config.js"];
  const files = [...loose.map((name) => join(here, name)), ...walk(join(here, "src")), ...walk(join(here, "public"))];
  const named = files.map((file) => relative(here, file).replaceAll("\\", "/")).sort();
  const hash = createHash("sha256");
  for (const name of named) hash.update(name).update("\0").update(readFileSync(join(here, name))).update("\0");
  return hash.digest("hex");
}

const console_ = {
  name: "console",
  // Fetched beside the styles, so that the first text is already set in it.
  transformIndexHtml: () => [
    { tag: "link", attrs: { rel: "preload", href: "./sans.woff2", as: "font", type: "font/woff2", crossorigin: true }, injectTo: "head" },
  ],
  generateBundle() {
    this.emitFile({ type: "asset", fileName: "sources.sha256", source: `${digest()}\n` });
  },
};

// Names without hashes: the files are committed, and the server lets browsers ask whether they have changed.
export default defineConfig({
  base: "./",
  plugins: [console_],
  build: {
    outDir: "../static",
    emptyOutDir: true,
    target: "es2022",
    // The first versions with `light-dark()`, which is kept as it is written.
    cssTarget: ["chrome123", "firefox120", "safari17.5"],
    assetsInlineLimit: 0,
    modulePreload: false,
    rollupOptions: {
      output: {
        entryFileNames: "app.js",
        chunkFileNames: "[name].js",
        assetFileNames: ({ names }) => (names[0]?.endsWith(".woff2") ? "sans.woff2" : "app[extname]"),
      },
    },
  },
  server: { proxy: { "/v1": "http://127.0.0.1:8000" } },
});
