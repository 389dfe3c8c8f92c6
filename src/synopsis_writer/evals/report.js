"use strict";
// Sorting, filtering, links into closed parts, and print for browsers that cannot open parts by style.
// Text of a row is only ever read as text: nothing here makes markup of it.
(() => {
  const body = document.querySelector("#table tbody");
  const rows = [...body.rows];
  const heads = [...document.querySelectorAll("#table th[data-sort]")];
  const named = heads.filter((head) => head.dataset.sort === "text").map((head) => head.cellIndex);
  const words = new Map(
    rows.map((row) => [row, named.map((column) => row.cells[column].textContent.toLowerCase()).join(" ")]),
  );

  const value = (row, column, isNumber) => {
    const cell = row.cells[column];
    if (!isNumber) return cell.textContent;
    return "value" in cell.dataset ? Number(cell.dataset.value) : null;
  };
  const order = (column, isNumber, sign) => (a, b) => {
    const [one, other] = [value(a, column, isNumber), value(b, column, isNumber)];
    if (one === null || other === null) return (one === null) - (other === null); // unscored goes last
    return sign * (isNumber ? one - other : one.localeCompare(other, "de", { numeric: true }));
  };
  const sort = (head) => {
    const isNumber = head.dataset.sort === "number";
    const first = isNumber && Number(head.dataset.direction) >= 0 ? "descending" : "ascending";
    const now = head.getAttribute("aria-sort");
    const next = now === null ? first : now === "ascending" ? "descending" : "ascending";
    for (const each of heads) each.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", next);
    body.append(...[...rows].sort(order(head.cellIndex, isNumber, next === "ascending" ? 1 : -1)));
  };
  for (const head of heads) {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    button.addEventListener("click", () => sort(head));
    head.append(button);
  }

  const find = document.getElementById("find");
  const outcome = document.getElementById("outcome");
  const results = new Map(
    [...document.querySelectorAll("details.result")].map((each) => [each.dataset.result, each]),
  );
  const filter = () => {
    const wanted = find.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const row of rows) {
      const fits =
        (!outcome.value || row.dataset.outcome === outcome.value) &&
        wanted.every((word) => words.get(row).includes(word));
      row.hidden = !fits;
      results.get(row.dataset.result).hidden = !fits;
      shown += fits;
    }
    for (const part of document.querySelectorAll("details.case"))
      part.hidden = !part.querySelector("details.result:not([hidden])");
    document.getElementById("shown").textContent = `${shown} of ${rows.length} results`;
  };
  find.addEventListener("input", filter);
  outcome.addEventListener("change", filter);
  document.querySelector(".controls").hidden = false;
  filter();

  const reveal = () => {
    const target = document.getElementById(location.hash.slice(1));
    if (!target) return;
    for (let part = target; part; part = part.parentElement) if (part.matches("details")) part.open = true;
    target.scrollIntoView();
  };
  addEventListener("hashchange", reveal);
  reveal();

  let opened = [];
  addEventListener("beforeprint", () => {
    opened = [...document.querySelectorAll("details:not([open], #prompts *)")];
    for (const part of opened) part.open = true;
  });
  addEventListener("afterprint", () => {
    for (const part of opened) part.open = false;
  });
})();
