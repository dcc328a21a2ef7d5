"use strict";
// `data/images.js` calls `begin` with all that is known of the images but their maps. Those are in
// `data/NUMBER.js`, which calls `receive` and is loaded while its image is near the view.

const CARDS = 24;  // added at a time
const at = (id) => document.getElementById(id);

let page;          // what `begin` was given
let layers;        // numbers of the layers that any image has
let cut;           // index of the threshold
let chosen = 0;    // class that is filtered by; 0: none
let order = [];    // numbers of the images shown, in their order
let added = 0;     // how many of them are in the document
let current = -1;  // image that has, or had, the focus
let colours;       // of classes, as 32 bits of a canvas
const cards = new Map();  // article, tiles of layers, maps while they are loaded
const hidden = new Set(); // layers that are not shown

function element(tag, attributes = {}, ...children) {
  const made = Object.assign(document.createElement(tag), attributes);
  made.append(...children);
  return made;
}

function begin(given) {
  page = given;
  colours = page.palette.map(([red, green, blue]) => colour(red, green, blue, 255));
  colours[0] = 0;
  layers = page.layers.map((_, layer) => layer).filter((layer) => page.images.some((image) => image.counts[layer]));
  for (const image of page.images)
    image.counts = image.counts.map((counts) => counts?.map(([number, truth, hits, predicted]) => (
      {number, truth, hits: sums(hits), predicted: sums(predicted)})));
  const seeds = layers.some((layer) => page.layers[layer].kind === "seeds");
  at("slider").hidden = !seeds;
  at("threshold").max = page.thresholds.length - 1;
  const some = (number) => page.images.filter((image) => image.classes.includes(number)).length;
  at("class").append(new Option("all", 0), ...page.classes.flatMap((name, number) => (
    number && some(number) ? [new Option(`${name} (${some(number)})`, number)] : [])));
  const scored = layers.filter((layer) => page.images.some((image) => image.counts[layer]?.length));
  at("sort").append(...scored.map((layer) => new Option(`worst first: ${page.layers[layer].name}`, layer)),
    new Option("as listed", -1));
  at("sort").selectedIndex = Math.max(0, scored.length - 1);
  at("order").hidden = at("scores").hidden = !scored.length;
  for (const layer of layers) {
    const box = element("input", {type: "checkbox", checked: true});
    box.addEventListener("change", () => {
      hidden[box.checked ? "delete" : "add"](layer);
      for (const card of cards.values()) show(card);
      fit();
    });
    at("layers").append(element("label", {}, box, page.layers[layer].name));
  }
  listen();
  fit();
  setThreshold(page.start);
  arrange();
  if (!readsBack()) at("warning").hidden = false;
}

const sums = (differences) => {
  let sum = 0;
  return differences.map((difference) => sum += difference);
};
const colour = (red, green, blue, alpha) => ((alpha << 24) | (blue << 16) | (green << 8) | red) >>> 0;
const percent = (value) => Number.isNaN(value) ? "–" : value.toFixed(1);
const number = (value) => String(+value.toFixed(3)).replace(/^0\./, ".");
const mean = (values) => {
  const known = values.filter((value) => !Number.isNaN(value));
  return known.length ? known.reduce((sum, value) => sum + value, 0) / known.length : NaN;
};

// Scores. Masks have their counts at one threshold, which is theirs at all.

const count = (values) => values[Math.min(cut, values.length - 1)];

function iou(hits, predicted, truth) {
  const union = truth + predicted - hits;
  return union ? 100 * hits / union : NaN;
}

/** IoU of the chosen class in an image, or the mean over the background and the classes in the true mask. */
function imageScore(image, layer) {
  const own = (image.counts[layer] ?? []).filter((row) => chosen ? row.number === chosen : row.truth);
  return mean(own.map((row) => iou(count(row.hits), count(row.predicted), row.truth)));
}

/** IoU of each class over all images that are shown. */
function totals(layer) {
  const table = page.classes.map(() => [0, 0, 0]);
  for (const image of order)
    for (const row of page.images[image].counts[layer] ?? []) {
      const sum = table[row.number];
      sum[0] += count(row.hits); sum[1] += count(row.predicted); sum[2] += row.truth;
    }
  return table.map((sum) => iou(...sum));
}

function tabulate() {
  if (!at("scores").open) return;
  const scored = layers.filter((layer) => page.images.some((image) => image.counts[layer]?.length));
  const columns = scored.map(totals);
  const row = (name, values, kind = "") => element("tr", {className: kind},
    element("th", {scope: "row"}, name), ...values.map((value) => element("td", {}, value)));
  const head = element("tr", {}, element("th", {scope: "col"}, "class"),
    ...scored.map((layer) => element("th", {scope: "col"}, page.layers[layer].name)));
  const rows = page.classes.flatMap((name, index) => (
    columns.every((values) => Number.isNaN(values[index])) ? []
      : [row(name, columns.map((values) => percent(values[index])))]));
  const oracles = scored.map((layer) => page.layers[layer].oracle);
  if (oracles.some((found) => found !== null))
    rows.push(row("oracle threshold, of all images",
      oracles.map((found) => found === null ? "" : number(page.thresholds[found]))));
  at("scores").querySelector("table").replaceChildren(element("thead", {}, head), element("tbody", {},
    row("mIoU", columns.map((values) => percent(mean(values))), "sum"), ...rows));
}

// The images that are shown, and their order

function arrange() {
  const by = +at("sort").value;
  const all = page.images.map((_, image) => image);
  const value = all.map((image) => by < 0 ? NaN : imageScore(page.images[image], by));
  const worst = (score) => Number.isNaN(score) ? Infinity : score;
  order = all.filter((image) => !chosen || page.images[image].classes.includes(chosen));
  order.sort((a, b) => (worst(value[a]) === worst(value[b]) ? a - b : worst(value[a]) - worst(value[b])));
  const focused = at("grid").contains(document.activeElement);
  const before = added;
  added = 0;
  at("grid").replaceChildren();
  add(Math.max(before, CARDS));
  at("status").textContent = `${order.length} of ${page.images.length} images`;
  tabulate();
  if (focused) focus(order.includes(current) ? current : order[0]);
}

function add(several) {
  for (const image of order.slice(added, added + several)) {
    if (!cards.has(image)) cards.set(image, build(image));
    at("grid").append(cards.get(image).article);
    caption(image);
  }
  added = Math.min(order.length, added + several);
  ends.disconnect();
  if (added < order.length) ends.observe(at("grid").lastElementChild);
}

const ends = new IntersectionObserver((entries) => {
  if (entries.some((entry) => entry.isIntersecting)) add(CARDS);
}, {rootMargin: "1500px"});

function build(image) {
  const own = page.images[image];
  const chips = own.true.map((index) => chip(page.palette[index], page.classes[index]));
  const article = element("article", {tabIndex: -1}, element("header", {},
    element("h2", {}, own.id), element("ul", {className: "chips"}, ...chips)));
  const tiles = new Map(), strip = element("div", {className: "tiles"});
  for (const layer of [-1, ...layers]) {
    if (layer >= 0 && !own.counts[layer]) continue;
    const photo = element("img", {src: `photos/${image}.jpg`, alt: "", loading: "lazy", decoding: "async"});
    const frame = element("div", {}, photo), score = element("b");
    const name = layer < 0 ? "photo" : page.layers[layer].name;
    frame.style.aspectRatio = `${own.width} / ${own.height}`;
    const figure = element("figure", {}, frame, element("figcaption", {}, name, score));
    if (layer >= 0) {
      const canvas = element("canvas", {width: 0, height: 0});
      figure.className = page.layers[layer].kind;
      frame.append(canvas);
      tiles.set(layer, {figure, canvas, score});
    } else photo.alt = own.id;
    strip.append(figure);
  }
  article.append(strip);
  article.setAttribute("aria-label", own.id);
  article.addEventListener("focusin", () => setCurrent(image));
  article.dataset.image = image;
  near.observe(article);
  const card = {image, article, tiles, maps: null, wanted: false};
  show(card);
  return card;
}

function chip([red, green, blue], name) {
  const swatch = element("i");
  swatch.style.background = `rgb(${red} ${green} ${blue})`;
  return element("li", {}, swatch, name);
}

function show(card) {
  for (const [layer, {figure}] of card.tiles) figure.hidden = hidden.has(layer);
}

/** Make the tiles of an image fit beside each other, down to their least width. */
function fit() {
  document.documentElement.style.setProperty("--tiles", 1 + layers.length - hidden.size);
}

function caption(image) {
  for (const [layer, {score}] of cards.get(image).tiles)
    if (page.images[image].counts[layer].length)
      score.textContent = percent(imageScore(page.images[image], layer));
}

// Maps: loaded near the view, dropped far from it

const near = new IntersectionObserver((entries) => {
  for (const {target, isIntersecting} of entries) {
    const card = cards.get(+target.dataset.image);
    card.wanted = isIntersecting;
    if (isIntersecting && !card.maps) load(card.image);
    if (!isIntersecting) {
      card.maps = null;
      for (const {canvas} of card.tiles.values()) canvas.width = canvas.height = 0;
    }
  }
}, {rootMargin: "600px"});

function load(image) {
  const script = element("script", {src: `data/${image}.js`});
  script.addEventListener("load", () => script.remove());
  script.addEventListener("error", () => at("status").textContent = `data/${image}.js is missing: write the page again`);
  document.head.append(script);
}

async function receive(image, maps) {
  const card = cards.get(image);
  for (const layer of maps)
    if (layer) layer.planes = await Promise.all(layer.planes.map(decode));
  if (!card.wanted) return;
  card.maps = maps;
  for (const layer of card.tiles.keys()) paint(card, layer);
}

const scratch = document.createElement("canvas").getContext("2d", {willReadFrequently: true});

/** The bytes of a grey PNG. */
async function decode(text) {
  const picture = new Image();
  picture.src = `data:image/png;base64,${text}`;
  await picture.decode();
  Object.assign(scratch.canvas, {width: picture.width, height: picture.height});
  scratch.drawImage(picture, 0, 0);
  return scratch.getImageData(0, 0, picture.width, picture.height).data.filter((_, index) => index % 4 === 0);
}

/** Whether pixels are read as they were written, which some browsers prevent to hinder fingerprinting. */
function readsBack() {
  Object.assign(scratch.canvas, {width: 16, height: 16});
  const written = new ImageData(16, 16);
  written.data.forEach((_, index) => written.data[index] = index % 4 === 3 ? 255 : index);
  scratch.putImageData(written, 0, 0);
  return scratch.getImageData(0, 0, 16, 16).data.every((value, index) => value === written.data[index]);
}

function paint(card, layer) {
  const {kind} = page.layers[layer], {canvas} = card.tiles.get(layer);
  const {planes: [first, levels]} = card.maps[layer];
  const {width, height} = page.images[card.image];
  Object.assign(canvas, {width, height});
  const picture = new ImageData(width, height), pixels = new Uint32Array(picture.data.buffer);
  if (kind === "instances" || kind === "nroi") {
    outline(first, pixels, width);
    if (kind === "instances") nameInstances(card, layer);
  } else for (let index = 0; index < pixels.length; index++)
    pixels[index] = levels && levels[index] <= cut ? 0 : colours[first[index]];
  canvas.getContext("2d").putImageData(picture, 0, 0);
}

/** Instances [h, w] as translucent areas with an opaque edge. */
function outline(numbers, pixels, width) {
  for (let index = 0; index < pixels.length; index++) {
    const own = numbers[index], column = index % width;
    if (!own) continue;
    const edge = (column > 0 && numbers[index - 1] !== own) || (column < width - 1 && numbers[index + 1] !== own)
      || (numbers[index - width] ?? own) !== own || (numbers[index + width] ?? own) !== own;
    pixels[index] = colour(...instanceColour(own), edge ? 255 : 115);
  }
}

function instanceColour(number) {
  const code = page.categorical[(number - 1) % page.categorical.length];
  return [1, 3, 5].map((start) => parseInt(code.slice(start, start + 2), 16));
}

function nameInstances(card, layer) {
  const {figure} = card.tiles.get(layer), named = card.maps[layer].instances;
  figure.querySelector("ul")?.remove();
  const text = ([index, score]) => page.classes[index] + (score === null ? "" : ` ${score.toFixed(2)}`);
  figure.append(element("ul", {className: "chips"},
    ...named.map((one, index) => chip(instanceColour(index + 1), text(one)))));
}

// The threshold, the keyboard, the focus

function setThreshold(value) {
  cut = Math.max(0, Math.min(page.thresholds.length - 1, value));
  at("threshold").value = cut;
  at("value").textContent = number(page.thresholds[cut]);
  at("threshold").setAttribute("aria-valuetext", at("value").textContent);
  for (const image of order.slice(0, added)) {
    const card = cards.get(image);
    caption(image);
    if (!card.maps) continue;
    for (const layer of card.tiles.keys()) if (page.layers[layer].kind === "seeds") paint(card, layer);
  }
  tabulate();
}

function setCurrent(image) {
  if (cards.has(current)) cards.get(current).article.tabIndex = -1;
  current = image;
  cards.get(image).article.tabIndex = 0;
}

function focus(image) {
  if (image === undefined) return;
  while (!cards.get(image)?.article.isConnected) add(CARDS);
  setCurrent(image);
  cards.get(image).article.focus({preventScroll: true});
  cards.get(image).article.scrollIntoView({block: "nearest"});
}

/** The image in a direction of the current one, or the first. */
function neighbour(key) {
  const place = order.indexOf(current);
  if (place < 0) return order[0];
  if (key === "ArrowLeft" || key === "ArrowRight") return order[place + (key === "ArrowLeft" ? -1 : 1)];
  const {offsetTop: top, offsetLeft: left} = cards.get(current).article;
  const step = key === "ArrowUp" ? -1 : 1;
  if (place + CARDS >= added) add(CARDS);
  let best, row;
  for (let index = place + step; index >= 0 && index < added; index += step) {
    const {offsetTop, offsetLeft} = cards.get(order[index]).article;
    if (offsetTop === top) continue;
    row ??= offsetTop;
    if (offsetTop !== row) break;
    if (best === undefined || Math.abs(offsetLeft - left) < best[0]) best = [Math.abs(offsetLeft - left), order[index]];
  }
  return best?.[1];
}

function press(event) {
  if (event.metaKey || (event.ctrlKey && !event.altKey)) return;  // [ is AltGr with a digit on some keyboards
  const typing = /^(INPUT|SELECT|SUMMARY)$/.test(document.activeElement.tagName);
  if (event.key === "[" || event.key === "]") setThreshold(cut + (event.key === "[" ? -1 : 1));
  else if (event.key === "/") at("class").focus();
  else if (event.key === "Escape") focus(order.includes(current) ? current : order[0]);
  else if (event.key.startsWith("Arrow") && !typing) focus(neighbour(event.key));
  else return;
  event.preventDefault();
}

function listen() {
  at("threshold").addEventListener("input", () => setThreshold(+at("threshold").value));
  at("threshold").addEventListener("change", arrange);
  at("sort").addEventListener("change", arrange);
  at("class").addEventListener("change", () => {
    chosen = +at("class").value;
    added = 0;
    scrollTo(0, 0);
    arrange();
  });
  at("scores").addEventListener("toggle", tabulate);
  document.addEventListener("keydown", press);
  document.addEventListener("keyup", ({key}) => {
    if (key === "[" || key === "]") arrange();
  });
}
