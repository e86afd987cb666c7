"use strict";
// Draws each chart into the element of its name, as wide as the page allows.

const specs = JSON.parse(document.getElementById("specs").textContent);
let drawnWidth = 0;

function draw() {
  const width = document.querySelector("main").clientWidth;
  if (width === drawnWidth) return;
  drawnWidth = width;
  for (const [name, spec] of Object.entries(specs)) {
    const place = document.getElementById(name);
    drawInto(place, fitted(spec, width)).catch((error) => {
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
