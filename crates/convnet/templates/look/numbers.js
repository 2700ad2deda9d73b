(() => {
  "use strict";
  const tip = document.getElementById("part/numbers");
  const steps = {};
  for (const map of ["sequential", "diverging", "grey"]) {
    const text = tip.dataset[map];
    steps[map] = new Map(Array.from({ length: text.length / 6 }, (_, step) => [parseInt(text.slice(6 * step, 6 * step + 6), 16), step]));
  }
  const bytes = new WeakMap();
  const bytesOf = (img) => {
    if (!bytes.has(img)) {
      const canvas = document.createElement("canvas");
      canvas.width = img.naturalWidth;
      canvas.height = img.naturalHeight;
      const context = canvas.getContext("2d", { willReadFrequently: true });
      context.drawImage(img, 0, 0);
      bytes.set(img, context.getImageData(0, 0, canvas.width, canvas.height).data);
    }
    return bytes.get(img);
  };
  // The tile under the pointer and the place in it, or nothing between the tiles.
  const placeIn = (img, event) => {
    const box = img.getBoundingClientRect();
    const x = Math.floor(((event.clientX - box.left) / box.width) * img.naturalWidth);
    const y = Math.floor(((event.clientY - box.top) / box.height) * img.naturalHeight);
    const [height, width] = img.dataset.tile.split(" ").map(Number);
    const columns = Number(img.dataset.columns);
    const [row, column] = [Math.floor(y / (height + 1)), Math.floor(x / (width + 1))];
    const [top, left] = [y - row * (height + 1), x - column * (width + 1)];
    const inside = x >= 0 && y >= 0 && x < img.naturalWidth && y < img.naturalHeight;
    return inside && top < height && left < width ? { x, y, row, column, top, left, tile: row * columns + column } : null;
  };
  const short = (number) => {
    const text = String(Number(number.toPrecision(3)));
    return text.replace("-", "−");
  };
  const numberOf = (img, place) => {
    const [red, green, blue, opacity] = bytesOf(img).slice(4 * (place.y * img.naturalWidth + place.x));
    if (opacity === 0) return null;
    const ranges = img.dataset.ranges.split(";").map((range) => range.split(" ").map(Number));
    const [low, high] = ranges[Math.min(place.tile, ranges.length - 1)];
    const map = img.dataset.map;
    const value = (step) => (step === undefined ? "not a number" : short(low + ((high - low) * step) / 254));
    if (map === "named") return "";
    if (map === "image") return String(red);
    if (map === "image-colour") return `${red}, ${green}, ${blue}`;
    if (map === "colour") return [red, green, blue].map((byte) => value((byte * 254) / 255)).join(", ");
    return value(steps[map].get((red << 16) | (green << 8) | blue));
  };
  const show = (event) => {
    const img = event.target instanceof Element ? event.target.closest("img.px") : null;
    const place = img && img.complete && img.naturalWidth > 0 ? placeIn(img, event) : null;
    const number = place ? numberOf(img, place) : null;
    tip.hidden = number === null;
    if (number === null) return;
    const words = (img.dataset.words || "").split("|");
    const axes = (img.dataset.words || "").split("\n").map((names) => names.split("|"));
    const which = words.length === 2 ? `${words[0]} ${place.row}, ${words[1]} ${place.column} · ` : words[0] ? `${words[0]} ${place.tile} · ` : "";
    tip.textContent =
      img.dataset.map === "named" ? words[place.tile] || ""
      : axes.length === 2 ? `${axes[0][place.top]} · ${axes[1][place.left]}: ${number}`
      : `${which}${tip.dataset.row} ${place.top}, ${tip.dataset.column} ${place.left}: ${number}`;
    const left = Math.min(event.clientX + 14, document.documentElement.clientWidth - tip.offsetWidth - 8);
    tip.style.left = `${Math.max(8, left)}px`;
    tip.style.top = `${event.clientY > 60 ? event.clientY - tip.offsetHeight - 12 : event.clientY + 20}px`;
  };
  document.addEventListener("pointermove", show);
  document.addEventListener("pointerdown", show);
  document.addEventListener("scroll", () => { tip.hidden = true; }, { passive: true });
  document.addEventListener("click", (event) => {
    const img = event.target instanceof Element ? event.target.closest("img.px[data-layer]") : null;
    const place = img ? placeIn(img, event) : null;
    if (!place || event.pointerType === "touch") return;
    const number = img.dataset.words.includes("|") ? place.row : place.tile;
    const address = `${img.dataset.layer}/${number}`;
    if (document.getElementById(address)) location.hash = address;
  });
})();
