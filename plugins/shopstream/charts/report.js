"use strict";
// Draws each chart into the element of its name, as wide as the page allows and in the colours of its theme.

const specs = JSON.parse(document.getElementById("specs").textContent);
const dark = matchMedia("(prefers-color-scheme: dark)");
let drawn = "";

function draw() {
  const width = document.querySelector("main").clientWidth;
  const theme = dark.matches && !isOnPaper() ? "dark" : "light";
  if (drawn === `${width} ${theme}`) return;
  drawn = `${width} ${theme}`;
  for (const [name, spec] of Object.entries(specs)) {
    const place = document.getElementById(name);
    drawInto(place, fitted({ ...spec, config: chartConfig(spec.config) }, width)).catch((error) => {
      place.textContent = `This chart could not be drawn: ${error.message}`;
    });
  }
}

let waiting;
window.addEventListener("resize", () => {
  clearTimeout(waiting);
  waiting = setTimeout(draw, 200);
});
dark.addEventListener("change", draw);
redrawForPaper(draw);
draw();
