// The editor of a cell: CodeMirror with the keys of a notebook, and with completions and descriptions from the kernel.

import {
  acceptCompletion,
  autocompletion,
  bracketMatching,
  closeBrackets,
  closeBracketsKeymap,
  closeCompletion,
  completionKeymap,
  completionStatus,
  defaultKeymap,
  drawSelection,
  EditorState,
  EditorView,
  globalCompletion,
  highlightSelectionMatches,
  highlightSpecialChars,
  HighlightStyle,
  history,
  historyKeymap,
  indentLess,
  indentMore,
  indentOnInput,
  indentUnit,
  keymap,
  localCompletionSource,
  placeholder,
  Prec,
  python,
  showTooltip,
  startCompletion,
  StateEffect,
  StateField,
  syntaxHighlighting,
  tags,
  toggleComment,
} from "../vendor/editor.bundle.js";
import { el, message } from "../scripts/dom.js";

const colours = HighlightStyle.define(
  [
    [[tags.keyword, tags.operatorKeyword, tags.controlKeyword, tags.definitionKeyword, tags.modifier], "keyword"],
    [[tags.string, tags.special(tags.string), tags.docString], "string"],
    [[tags.number, tags.bool, tags.null, tags.atom], "number"],
    [[tags.comment, tags.lineComment], "comment"],
    [[tags.function(tags.variableName), tags.function(tags.definition(tags.variableName))], "function"],
    [[tags.className, tags.typeName, tags.definition(tags.className)], "class"],
    [[tags.meta, tags.self], "meta"],
    [[tags.operator, tags.derefOperator], "operator"],
  ].map(([tag, name]) => ({ tag, color: `var(--code-${name})`, fontStyle: name === "comment" ? "italic" : undefined })),
);

const theme = EditorView.theme({
  "&": { color: "var(--ink)", backgroundColor: "transparent", fontSize: "var(--code-size)" },
  "&.cm-focused": { outline: "none" },
  ".cm-content": { fontFamily: "var(--mono)", lineHeight: "1.55", padding: "10px 0", caretColor: "var(--accent)" },
  ".cm-line": { padding: "0 14px" },
  ".cm-scroller": { fontFamily: "var(--mono)" },
  ".cm-cursor": { borderLeftColor: "var(--accent)", borderLeftWidth: "2px" },
  "&.cm-focused > .cm-scroller > .cm-selectionLayer .cm-selectionBackground, .cm-selectionBackground": {
    background: "var(--selection)",
  },
  ".cm-selectionMatch": { backgroundColor: "var(--shade)" },
  "&.cm-focused .cm-matchingBracket": { backgroundColor: "var(--selection)", outline: "1px solid var(--accent)" },
  "&.cm-focused .cm-nonmatchingBracket": { backgroundColor: "transparent", color: "var(--bad)" },
  ".cm-placeholder": { color: "var(--faint)" },
  ".cm-tooltip": {
    backgroundColor: "var(--raised)",
    border: "1px solid var(--line)",
    borderRadius: "8px",
    boxShadow: "var(--shadow)",
    color: "var(--ink)",
    overflow: "hidden",
  },
  ".cm-tooltip.cm-tooltip-autocomplete > ul": { fontFamily: "var(--mono)", fontSize: "13px", maxHeight: "15em" },
  ".cm-tooltip.cm-tooltip-autocomplete > ul > li": { padding: "5px 12px" },
  ".cm-tooltip-autocomplete ul li[aria-selected]": { background: "var(--accent)", color: "var(--on-accent)" },
  ".cm-completionMatchedText": { textDecoration: "none", fontWeight: "650" },
  ".cm-completionIcon": { display: "none" },
});

/** Escape closes a visible list of completions. While a list is still loading, Escape keeps its other meanings. */
const completing = [
  ...completionKeymap.filter(({ key }) => key !== "Escape"),
  { key: "Tab", run: acceptCompletion },
  { key: "Escape", run: (view) => completionStatus(view.state) === "active" && closeCompletion(view) },
];

// --- descriptions -------------------------------------------------------------------------------

const describe = StateEffect.define();
const description = StateField.define({
  create: () => null,
  update(shown, transaction) {
    for (const effect of transaction.effects) if (effect.is(describe)) return effect.value;
    return transaction.docChanged || transaction.selection ? null : shown;
  },
  provide: (field) => showTooltip.from(field),
});

function tooltip(pos, text) {
  const dom = el("pre", { class: "described", role: "tooltip", tabindex: "-1" }, message(text));
  return { pos, above: false, create: () => ({ dom }) };
}

/** The kernel counts positions in code points, JavaScript in UTF-16 code units. */
const characters = (text) => [...text].length;
const halves = (text, count) => [...text].slice(0, count).join("").length;

/**
 * Creates an editor. `kernel.complete(code, position)` and `kernel.inspect(code, position)` resolve to the service's
 * responses, or to null if it has none. `keys` are bindings that precede the editor's own.
 */
export function createEditor({ code, label, hint, keys, kernel, changed, focused }) {
  const inspect = (view) => {
    const { head } = view.state.selection.main;
    const text = view.state.doc.toString();
    kernel.inspect(text, characters(text.slice(0, head))).then((answer) => {
      const said = answer?.found ? answer.data["text/plain"] : null;
      if (said && view.state.selection.main.head === head) view.dispatch({ effects: describe.of(tooltip(head, said)) });
    });
    return true;
  };
  const undescribe = (view) => {
    if (!view.state.field(description)) return false;
    view.dispatch({ effects: describe.of(null) });
    return true;
  };
  const indents = ({ state }) => {
    const { from, to, head } = state.selection.main;
    return from !== to || !state.doc.lineAt(head).text.slice(0, head - state.doc.lineAt(head).from).trim();
  };
  const bindings = [
    { key: "Escape", run: undescribe },
    ...keys,
    { key: "Tab", run: (view) => (indents(view) ? indentMore(view) : startCompletion(view)) },
    { key: "Shift-Tab", run: (view) => (indents(view) ? indentLess(view) : inspect(view)) },
    { key: "Mod-/", run: toggleComment },
  ];
  const narrow = matchMedia("(max-width: 640px)").matches;
  const view = new EditorView({
    doc: code,
    extensions: [
      // An open list of completions handles Escape, Enter, Tab and the arrows first.
      Prec.highest(keymap.of(completing)),
      Prec.high(keymap.of(bindings)),
      history(),
      drawSelection(),
      highlightSpecialChars(),
      indentUnit.of("    "),
      EditorState.tabSize.of(4),
      indentOnInput(),
      bracketMatching(),
      closeBrackets(),
      highlightSelectionMatches(),
      python(),
      syntaxHighlighting(colours),
      theme,
      description,
      autocompletion({
        override: [(context) => completed(context, kernel)],
        icons: false,
        defaultKeymap: false,
        activateOnTypingDelay: 60,
        maxRenderedOptions: 200,
      }),
      keymap.of([...closeBracketsKeymap, ...historyKeymap, ...defaultKeymap]),
      placeholder(hint),
      // The editor is not in the Tab order, because Tab indents in it and could not leave it. Enter opens it.
      EditorView.contentAttributes.of({ "aria-label": label, tabindex: "-1" }),
      EditorView.updateListener.of((update) => {
        if (update.docChanged) changed();
        if (update.focusChanged) focused(update.view.hasFocus);
      }),
      narrow ? EditorView.lineWrapping : [],
    ],
  });
  return view;
}

/** Closes the list of completions and cancels a pending request for them. */
export const stopCompleting = (view) => closeCompletion(view);

/** Returns the kernel's completions. If the kernel has no response, returns names from the code and from Python. */
async function completed(context, kernel) {
  const word = context.matchBefore(/[\p{L}\p{N}_]*/u);
  const attribute = context.matchBefore(/[\p{L}\p{N}_)\]"']\.[\p{L}\p{N}_]*/u);
  if (!context.explicit && !attribute) return null;
  const text = context.state.doc.toString();
  const answer = await kernel.complete(text, characters(text.slice(0, context.pos)));
  if (context.aborted) return null;
  if (!answer) return attribute ? null : merged(word.from, localCompletionSource(context), globalCompletion(context));
  if (!answer.matches.length) return null;
  const from = halves(text, answer.cursor_start);
  const to = halves(text, answer.cursor_end);
  // Matches may repeat the text before the last dot. The list shows only what follows it.
  const common = (/^.*\./.exec(text.slice(from, context.pos)) ?? [""])[0];
  const options = answer.matches.map((label) => {
    const displayLabel = label.startsWith(common) ? label.slice(common.length) : label;
    return { label, displayLabel: message(displayLabel) };
  });
  return { from, to, options, validFor: /^[\p{L}\p{N}_.]*$/u };
}

function merged(from, ...results) {
  const options = results.flatMap((result) => result?.options ?? []);
  return options.length ? { from, options, validFor: /^[\p{L}\p{N}_]*$/u } : null;
}
