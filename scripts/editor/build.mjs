// Bundles each library of the page into one module, with the licences: node build.mjs FOLDER
import { readFileSync, readdirSync, writeFileSync } from "node:fs";
import { build } from "esbuild";

const folder = process.argv[2];
const { packages } = JSON.parse(readFileSync("package-lock.json", "utf8"));

// style-mod writes a <style> element, which the page's Content-Security-Policy blocks. In shadow roots, it uses
// adoptedStyleSheets instead. This plug-in makes it do so in documents, too.
const adoptedStyles = {
  name: "adopted-styles",
  setup({ onLoad }) {
    onLoad({ filter: /style-mod\/src\/style-mod\.js$/ }, ({ path }) => {
      const source = readFileSync(path, "utf8");
      const contents = source.replace("!root.head && root.adoptedStyleSheets", "root.adoptedStyleSheets");
      if (contents === source) throw new Error("style-mod has changed: update this plug-in, so that no <style> element is used");
      return { contents };
    });
  },
};

for (const name of ["editor", "markdown"]) {
  const { metafile, outputFiles } = await build({
    entryPoints: [`${name}.js`],
    bundle: true,
    format: "esm",
    minify: true,
    target: "es2022",
    charset: "utf8",
    legalComments: "none",
    metafile: true,
    write: false,
    plugins: [adoptedStyles],
  });
  const used = Object.keys(metafile.inputs).map((path) => path.match(/node_modules\/(?:@[^/]+\/)?[^/]+/)?.[0]);
  const places = [...new Set(used.filter(Boolean))].sort();
  const licences = places.map((place) => {
    const file = readdirSync(place).find((entry) => /^licen[sc]e/i.test(entry));
    const { name, version } = JSON.parse(readFileSync(`${place}/package.json`, "utf8"));
    if (packages[place].version !== version) throw new Error(`${name} ${version} is not the locked version; run npm ci`);
    return { title: `${name} ${version}`, text: readFileSync(`${place}/${file}`, "utf8").trim() };
  });
  const texts = Map.groupBy?.(licences, ({ text }) => text) ?? grouped(licences);
  const notes = [...texts].map(([text, of]) => `${of.map(({ title }) => title).join(", ")}\n\n${text}`);
  const header = `/*! Made by scripts/bundle-editor; do not edit.\n\n${notes.join("\n\n---\n\n")}\n*/\n`;
  writeFileSync(`${folder}/${name}.bundle.js`, header + outputFiles[0].text);
}

function grouped(licences) {
  const groups = new Map();
  for (const licence of licences) groups.set(licence.text, [...(groups.get(licence.text) ?? []), licence]);
  return groups;
}
