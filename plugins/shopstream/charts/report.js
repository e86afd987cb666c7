"use strict";
// Draws each chart into the element of its name, as wide as the page allows.

const specs = JSON.parse(document.getElementById("specs").textContent);
const OPTIONS = {
  mode: "vega-lite",
  renderer: "svg",
  actions: false,
  defaultStyle: false,
  tooltip: { disableDefaultStyle: true },
  ast: true, // expressions are interpreted, so that the page needs no eval
};
const NARROW_PX = 700;
const GAP_PX = 20;
let drawnWidth = 0;

function fitted(spec, width) {
  const copy = structuredClone(spec);
  const plot = copy.spec ?? copy;
  if (copy.columns && width < NARROW_PX) copy.columns = 1;
  const columns = copy.columns ?? 1;
  plot.width = Math.floor((width - copy.usermeta.beside_px - GAP_PX * (columns - 1)) / columns);
  return copy;
}

function draw() {
  const width = document.querySelector("main").clientWidth;
  if (width === drawnWidth) return;
  drawnWidth = width;
  for (const [name, spec] of Object.entries(specs)) {
    const place = document.getElementById(name);
    vegaEmbed(place, fitted(spec, width), OPTIONS).catch((error) => {
      place.textContent = `This chart could not be drawn: ${error.message}`;
    });
  }
}

let waiting;
window.addEventListener("resize", () => {
  clearTimeout(waiting);
  waiting = setTimeout(draw, 200);
});
draw();
