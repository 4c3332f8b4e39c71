'use strict';
/* The slider of a report: score maps coloured by a threshold, and the rates that belong to it. */

const CLOSED = 0;
const OPEN = 1;

/* Pixels of a map by what a threshold makes of them; level > step means called open. */
function countCalled(levels, truth, step) {
  const found = { hit: 0, alarm: 0, open: 0, closed: 0 };
  for (let i = 0; i < levels.length; i += 1) {
    const called = levels[i] > step ? 1 : 0;
    if (truth[i] === OPEN) {
      found.open += 1;
      found.hit += called;
    } else if (truth[i] === CLOSED) {
      found.closed += 1;
      found.alarm += called;
    }
  }
  return found;
}

/* TPR, FPR and precision of counts; null where there is nothing to divide by. */
function rates(found) {
  const ratio = (part, whole) => (whole > 0 ? part / whole : null);
  return {
    tpr: ratio(found.hit, found.open),
    fpr: ratio(found.alarm, found.closed),
    precision: ratio(found.hit, found.hit + found.alarm),
  };
}

/* Red, green, blue and opacity of a pixel above the photograph. */
function colourOf(level, truth, step, view) {
  if (view === 'score') {
    const share = level / 255;
    const opacity = level > step ? 235 : 110;
    return [Math.round(255 * share), Math.round(220 * share ** 2), Math.round(120 * (1 - share)), opacity];
  }
  if (truth === OPEN) return level > step ? [0, 158, 115, 200] : [86, 180, 233, 215];
  if (truth === CLOSED) return level > step ? [213, 94, 0, 200] : [0, 0, 0, 0];
  return [128, 128, 128, 170];
}

const percent = (value) => (value === null ? '–' : `${(100 * value).toFixed(1)} %`);
const sentence = (found) => {
  const { tpr, fpr, precision } = rates(found);
  return `TPR ${percent(tpr)}, FPR ${percent(fpr)}, precision ${percent(precision)}`;
};

async function pixelsOf(image) {
  await image.decode();
  const canvas = document.createElement('canvas');
  canvas.width = image.naturalWidth;
  canvas.height = image.naturalHeight;
  const context = canvas.getContext('2d', { willReadFrequently: true });
  context.drawImage(image, 0, 0);
  const { data } = context.getImageData(0, 0, canvas.width, canvas.height);
  const levels = new Uint8Array(data.length / 4);
  const truth = new Uint8Array(data.length / 4);
  for (let i = 0; i < levels.length; i += 1) {
    levels[i] = data[4 * i];
    truth[i] = data[4 * i + 1];
  }
  return { levels, truth, width: canvas.width, height: canvas.height };
}

async function loadPicture(figure) {
  const map = new Image();
  map.src = figure.dataset.map;
  const loaded = await pixelsOf(map);
  const canvas = figure.querySelector('canvas');
  canvas.width = loaded.width;
  canvas.height = loaded.height;
  return { ...loaded, canvas, text: figure.querySelector('output'), name: figure.dataset.name };
}

function draw(picture, step, view) {
  const context = picture.canvas.getContext('2d');
  const shown = context.createImageData(picture.width, picture.height);
  for (let i = 0; i < picture.levels.length; i += 1) {
    shown.data.set(colourOf(picture.levels[i], picture.truth[i], step, view), 4 * i);
  }
  context.putImageData(shown, 0, 0);
  const text = sentence(countCalled(picture.levels, picture.truth, step));
  picture.text.textContent = text;
  picture.canvas.setAttribute('aria-label', `${picture.name}: ${text}`);
}

async function startRun(section) {
  const table = JSON.parse(section.querySelector('script').textContent);
  const slider = section.querySelector('input[type=range]');
  const view = section.querySelector('select');
  const summary = section.querySelector('.summary');
  const pictures = await Promise.all([...section.querySelectorAll('figure')].map(loadPicture));
  const show = () => {
    const step = Number(slider.value);
    const found = { hit: table.hit[step], alarm: table.alarm[step], ...table.all };
    const threshold = table.threshold[step].toPrecision(4);
    summary.textContent = `score ≥ ${threshold}: ${sentence(found)}`;
    slider.setAttribute('aria-valuetext', summary.textContent);
    pictures.forEach((picture) => draw(picture, step, view.value));
  };
  slider.addEventListener('input', show);
  view.addEventListener('change', show);
  section.querySelectorAll('button').forEach((button) => {
    button.addEventListener('click', () => {
      slider.value = button.value;
      show();
    });
  });
  show();
  section.dataset.ready = 'yes';
}

if (typeof module !== 'undefined') {
  module.exports = { countCalled, rates, colourOf, sentence };
} else {
  document.querySelectorAll('section.run').forEach(startRun);
}
