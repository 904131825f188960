/* The page's behaviour: theme, figures drawn when they come near, and the sortable table. No framework, no network. */
(function () {
  "use strict";
  const read = (id) => JSON.parse(document.getElementById(id).textContent);
  const labels = read("labels");
  const root = document.documentElement;

  /* ---- theme: system, light or dark; figures swap each light colour for its dark partner ---- */
  const system = window.matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (root.dataset.theme || (system.matches ? "dark" : "light")) === "dark";
  const themeButton = document.getElementById("theme");
  themeButton.hidden = false;
  themeButton.addEventListener("click", () => {
    const next = { "": "light", light: "dark", dark: "" }[root.dataset.theme || ""];
    if (next) root.dataset.theme = next; else delete root.dataset.theme;
    themeButton.textContent = "Theme: " + (next || "system");
    redraw();
  });
  system.addEventListener("change", redraw);

  /* ---- figures ---- */
  const drawn = new Set();
  function figureOf(key) {
    let source = document.getElementById("figure-" + key).textContent;
    if (isDark()) source = source.replace(/#[0-9a-f]{6}/g, (shade) => labels.dark[shade] || shade);
    return JSON.parse(source);
  }
  function draw(element) {
    const figure = figureOf(element.dataset.figure);
    if (figure.labels) figure.layout.annotations = figure.labels[element.clientWidth < 540 ? "narrow" : element.clientWidth < 900 ? "middle" : "wide"];
    const config = {
      responsive: true, displaylogo: false, showSendToCloud: false, plotlyServerURL: "",  /* nothing leaves the page */
      displayModeBar: element.dataset.figure === "scatter" ? "hover" : false,
      modeBarButtons: [["toImage"], ["zoom2d", "pan2d"], ["zoomIn2d", "zoomOut2d", "resetScale2d"]],
    };
    drawn.add(element);
    return Plotly.react(element, figure.data, figure.layout, config);
  }
  function redraw() { drawn.forEach(draw); }
  const figures = Array.from(document.querySelectorAll("[data-figure]"));
  if ("IntersectionObserver" in window) {
    const watcher = new IntersectionObserver((entries) => entries.forEach((entry) => {
      if (entry.isIntersecting) { watcher.unobserve(entry.target); draw(entry.target); }
    }), { rootMargin: "600px" });
    figures.forEach((element) => watcher.observe(element));
  } else figures.forEach(draw);
  window.addEventListener("beforeprint", () => {
    document.querySelectorAll("details").forEach((element) => { element.open = true; });
    figures.forEach((element) => drawn.has(element) || draw(element));
  });

  /* ---- table ---- */
  const data = read("columns");
  const n = data.verdict.length;
  const MINUS = "\u2212", NONE = "\u2013";
  const effect = (value) => value === null ? NONE : Math.abs(value) < 0.0005 ? "0.000" : (value < 0 ? MINUS : "+") + Math.abs(value).toFixed(3);
  const plainNumber = (value) => value === null ? NONE : String(Number(value.toPrecision(3))).replace("-", MINUS);
  const p = (value) => value === null ? NONE : value >= 0.001 ? String(Number(value.toPrecision(2))) : value.toExponential(0).replace("-", MINUS);
  const PARTS = ["first effect", "second effect", "split", "q", "sign", "head-room"];  /* the bits of evidence.PARTS */
  const failedText = (mask) => PARTS.filter((_, bit) => mask & (1 << bit)).join(", ");
  const VERDICTS = { hit: "\u25c6 hit", refused: "\u22a0 refused", "no hit": "\u25cb no hit" };
  const known = [
    ["perturbation", "Perturbation", "name"], ["verdict", "Verdict", "verdict"], ["planted_class", "Planted class", "text"],
    ["effect_first", "Effect in " + labels.first, "interval"], ["effect_second", "Effect in " + labels.second, "interval"],
    ["split", "Split", "interval"], ["q_value", "q", "p"], ["p_value", "p, largest part", "p"], ["p_split", "p, decoys", "p"],
    ["ridge_split", "Split by ridge", "effect"], ["knn_split", "Split by nearest neighbours", "effect"],
    ["bliss_excess", "Bliss excess", "effect"], ["head_room_second", "Head-room in " + labels.second, "number"],
    ["support", "Support", "text"], ["role", "Role", "text"], ["targets", "Targets", "words"], ["mechanism", "Mechanism", "words"],
    ["failed", "Parts failed", "failed"],
    ["p_first", "p, first effect", "p"], ["p_second", "p, second effect", "p"], ["p_sign_flip", "p, sign-flip (not used)", "p"],
    ["split_logit_u", "Split, logit U", "effect"], ["split_log_expression", "Split, log-expression", "effect"],
  ];
  const named = new Set(["refused_because"].concat(known.flatMap(([key]) => [key, key + "_low", key + "_high"])));
  const hasValue = (key) => data[key].some((value) => value !== null && value !== "");
  const columns = known.filter(([key]) => key in data && (key === "perturbation" || hasValue(key)));
  Object.keys(data).filter((key) => !named.has(key) && hasValue(key)).forEach((key) => {
    const numeric = data[key].every((value) => value === null || typeof value === "number");
    columns.push([key, key.replace(/_/g, " "), numeric ? (key.endsWith("_split") ? "effect" : "number") : "words"]);
  });
  if ("refused_because" in data && hasValue("refused_because")) columns.push(["refused_because", "Refused because", "long"]);
  const NUMERIC = new Set(["interval", "effect", "p", "number"]);
  const shown = {
    effect, p, number: plainNumber, text: String, words: String, long: String, name: String, verdict: (value) => VERDICTS[value], failed: failedText,
  };
  const haystack = Array.from({ length: n }, (_, i) => columns
    .filter(([, , kind]) => !NUMERIC.has(kind)).map(([key, , kind]) => shown[kind](data[key][i])).join("\u0001").toLowerCase());

  const table = document.getElementById("grid"), body = table.tBodies[0];
  const filter = document.getElementById("filter"), show = document.getElementById("show");
  const SIZE = 50;
  let order = Array.from({ length: n }, (_, i) => i), visible = order, pageNow = 0, sorted = null, rising = true;
  const headings = columns.map(([key, label, kind]) => {
    const cell = document.createElement("th"), button = document.createElement("button");
    cell.scope = "col";
    if (NUMERIC.has(kind)) cell.className = "number";
    button.type = "button";
    button.textContent = label;
    button.addEventListener("click", () => sortBy(key, kind));
    cell.append(button);
    return cell;
  });
  const headRow = document.createElement("tr");
  headRow.append(...headings);
  table.tHead.append(headRow);

  function rankOf(key, kind, i) {
    if (key === "verdict") return { hit: 0, refused: 1, "no hit": 2 }[data.verdict[i]];
    if (key === "failed") { let bits = data.failed[i], count = 0; while (bits) { count += bits & 1; bits >>= 1; } return count; }
    const value = data[key][i];
    return value === "" ? null : typeof value === "string" ? value.toLowerCase() : value;
  }
  function sortBy(key, kind) {
    const signed = kind === "interval" || kind === "effect";
    rising = sorted === key ? !rising : !signed;
    sorted = key;
    const keys = Array.from({ length: n }, (_, i) => rankOf(key, kind, i));
    order = Array.from({ length: n }, (_, i) => i).sort((a, b) => {
      const x = keys[a], y = keys[b];
      if (x === null || y === null) return x === y ? a - b : x === null ? 1 : -1;  /* missing values last, either way */
      if (x === y) return a - b;
      return (typeof x === "string" ? x.localeCompare(y, "en", { numeric: true }) : x - y) * (rising ? 1 : -1) || a - b;
    });
    headings.forEach((cell, i) => {
      if (columns[i][0] === key) cell.setAttribute("aria-sort", rising ? "ascending" : "descending");
      else cell.removeAttribute("aria-sort");
    });
    select();
  }
  function select() {
    const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    visible = order.filter((i) => (!show.value || data.verdict[i] === show.value) && words.every((word) => haystack[i].includes(word)));
    pageNow = 0;
    fill();
  }
  function fill() {
    const from = pageNow * SIZE, rows = visible.slice(from, from + SIZE).map((i) => {
      const row = document.createElement("tr");
      row.className = data.verdict[i] === "hit" ? "hit" : "";
      columns.forEach(([key, , kind]) => {
        const cell = document.createElement(kind === "name" ? "th" : "td");
        if (kind === "name") cell.scope = "row";
        if (NUMERIC.has(kind)) cell.className = "number";
        if (kind === "words") cell.className = "words";
        if (kind === "long") cell.className = "long";
        if (kind === "interval") {
          cell.textContent = effect(data[key][i]);
          if (data[key + "_low"]) {
            const range = document.createElement("span");
            range.className = "range";
            range.textContent = " [" + effect(data[key + "_low"][i]) + ", " + effect(data[key + "_high"][i]) + "]";
            cell.append(range);
          }
        } else if (kind === "verdict") {
          const tag = document.createElement("span");
          tag.className = "tag " + data.verdict[i].replace(" ", "-");
          tag.textContent = VERDICTS[data.verdict[i]];
          cell.append(tag);
        } else cell.textContent = shown[kind](data[key][i]);
        row.append(cell);
      });
      return row;
    });
    if (!rows.length) {
      const row = document.createElement("tr"), cell = document.createElement("td");
      cell.colSpan = columns.length;
      cell.className = "empty";
      cell.textContent = "No row matches.";
      row.append(cell);
      rows.push(row);
    }
    body.replaceChildren(...rows);
    const pages = Math.max(1, Math.ceil(visible.length / SIZE));
    document.getElementById("count").textContent = visible.length.toLocaleString("en") + (visible.length === n ? "" : " of " + n.toLocaleString("en")) + " rows";
    document.getElementById("pages").textContent = "page " + (pageNow + 1) + " of " + pages;
    document.getElementById("previous").disabled = pageNow === 0;
    document.getElementById("next").disabled = pageNow >= pages - 1;
  }
  function turn(step) { pageNow += step; fill(); table.parentElement.scrollTop = 0; }
  document.getElementById("previous").addEventListener("click", () => turn(-1));
  document.getElementById("next").addEventListener("click", () => turn(1));
  filter.addEventListener("input", select);
  show.addEventListener("change", select);
  fill();
})();
