/* The names and counts of a confusion matrix's cell under the pointer. */
const tip = document.body.appendChild(document.createElement("div"));
tip.id = "tip";
tip.hidden = true;
for (const matrix of document.querySelectorAll(".matrix")) {
  const { names, cells } = JSON.parse(matrix.querySelector("script").textContent);
  const counts = new Map(cells.map(([row, column, count]) => [row * names.length + column, count]));
  const totals = names.map(() => 0);
  for (const [row, , count] of cells) totals[row] += count;
  const svg = matrix.querySelector("svg");
  const show = event => {
    const box = svg.getBoundingClientRect();
    const at = (value, start, size) => Math.min(names.length - 1, Math.max(0, Math.floor((value - start) / size * names.length)));
    const row = at(event.clientY, box.top, box.height), column = at(event.clientX, box.left, box.width);
    const count = counts.get(row * names.length + column) || 0;
    tip.textContent = (row === column ? `right: ${names[row]}` : `true: ${names[row]}\nanswer: ${names[column]}`)
      + `\n${count} of ${totals[row]}` + (totals[row] ? ` (${(100 * count / totals[row]).toFixed(1)} %)` : "");
    tip.hidden = false;
    const right = event.clientX + 16 + tip.offsetWidth > innerWidth;
    tip.style.left = `${Math.max(4, right ? event.clientX - 12 - tip.offsetWidth : event.clientX + 16)}px`;
    tip.style.top = `${Math.min(event.clientY + 16, innerHeight - tip.offsetHeight - 4)}px`;
  };
  svg.addEventListener("pointermove", show);
  svg.addEventListener("pointerdown", show);
  svg.addEventListener("pointerleave", () => { tip.hidden = true; });
}
addEventListener("scroll", () => { tip.hidden = true; }, { passive: true, capture: true });
