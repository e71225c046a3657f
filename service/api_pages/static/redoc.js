// Shows the service's OpenAPI document in Redoc. Its search needs a worker made of text, which the policy forbids.
const fontFamily = "system-ui, sans-serif";
const typography = { fontFamily, headings: { fontFamily }, code: { fontFamily: "monospace" } };
Redoc.init("openapi.json", { disableSearch: true, theme: { typography } }, document.getElementById("api"));
