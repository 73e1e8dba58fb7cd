/** The ratios of the cells as a picture, in SVG. */
import { type Cell, goal, type Rival } from './cells.js';
import type { Results } from './results.js';
import { digits, short } from './section.js';

/** Of all pictures, and where what they draw begins and ends in it. */
export const WIDTH = 880;
export const LEFT = 52;
export const RIGHT = 16;
const TOP = 92;
const PANEL = 190;
const GAP = 92;
const SERIES: { rival: Rival; name: string; className: string; at: number }[] = [
  { rival: 'byHand', name: 'the best written by hand', className: 'first', at: 0 },
  { rival: 'original', name: "the original's way, LOCK TABLES", className: 'second', at: 190 },
];
export const NAMES = { mariadb: 'MariaDB', mysql: 'MySQL' };

/** Colours that can be read on white and on black: a picture doesn't know which page it is on. */
const STYLE = `
  text { font: 12px system-ui, -apple-system, 'Segoe UI', Helvetica, Arial, sans-serif; fill: #737b85 }
  .title { font-size: 16px; font-weight: 600 }
  .grid { stroke: #737b85; stroke-opacity: 0.3 }
  .even, .goal { stroke: #737b85; stroke-width: 1.5 }
  .first { fill: #2f81f7; stroke: #2f81f7 }
  .second { fill: #d4691a; stroke: #d4691a }
  path.first, path.second { fill: none; stroke-width: 1.5 }
  path.thin { stroke-width: 0.6 }`;

/** A picture with its title above what it draws. */
export function picture(title: string, height: number, drawn: string[]): string {
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" role="img" aria-label="${title}">`,
    `<style>${STYLE}\n</style>`,
    `<text class="title" x="${LEFT}" y="22">${title}</text>`,
    ...drawn,
    '</svg>\n',
  ].join('\n');
}

/** Each rate of ours through theirs, on a scale of powers: above the line at 1 ours is faster. */
export function plot({ kind, version, sections }: Results): string {
  const cells = (sections.cells ?? []) as Cell[];
  const sizes = [...new Set(cells.map(({ ids }) => ids))];
  const values = cells.flatMap(({ ratios }) => SERIES.flatMap(({ rival }) => [ratios[rival]!.min, ratios[rival]!.max]));
  const low = Math.min(0.5, ...values);
  const high = Math.max(4, ...values);
  const height = TOP + sizes.length * (PANEL + GAP) - 24;
  const title = `${NAMES[kind]} ${version.split('-')[0]}: how many times as many ids a second as …`;
  const panels = sizes.map((ids, i) => {
    const top = TOP + i * (PANEL + GAP);
    const y = (ratio: number) => top + PANEL - (Math.log(ratio / low) / Math.log(high / low)) * PANEL;
    return panel(
      ids,
      cells.filter(cell => cell.ids === ids),
      top,
      y,
      ticks(low, high),
    );
  });
  const key = SERIES.map(
    ({ name, className, at }) =>
      `<circle class="${className}" cx="${LEFT + 5 + at}" cy="46" r="5"/><text x="${LEFT + 16 + at}" y="50">${name}</text>`,
  );
  const goalAt = LEFT + 430;
  key.push(
    `<line class="goal" x1="${goalAt}" x2="${goalAt + 12}" y1="46" y2="46"/>`,
    `<text x="${goalAt + 18}" y="50">the goal, at least; thin lines: the spread of the turns</text>`,
  );
  return picture(title, height, [...key, ...panels.flat()]);
}

function ticks(low: number, high: number): number[] {
  return [0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50].filter(tick => tick >= low && tick <= high);
}

function panel(ids: number, cells: Cell[], top: number, y: (ratio: number) => number, ticks: number[]): string[] {
  const step = (WIDTH - LEFT - RIGHT) / cells.length;
  const lines = [`<text x="${LEFT}" y="${top - 10}">of ${ids.toLocaleString('en')} ids</text>`];
  for (const tick of ticks) {
    const at = n(y(tick));
    lines.push(
      `<line class="${tick === 1 ? 'even' : 'grid'}" x1="${LEFT}" x2="${WIDTH - RIGHT}" y1="${at}" y2="${at}"/>`,
      `<text x="${LEFT - 8}" y="${n(y(tick) + 4)}" text-anchor="end">${tick}</text>`,
    );
  }
  cells.forEach((cell, i) => {
    const middle = LEFT + (i + 0.5) * step;
    SERIES.forEach(({ rival, className }, j) => {
      const { median, min, max } = cell.ratios[rival]!;
      const x = n(middle + (j - 0.5) * Math.min(step / 2, 26));
      const at = n(y(goal(rival, cell)));
      lines.push(
        `<line class="goal" x1="${x - 7}" x2="${x + 7}" y1="${at}" y2="${at}"/>`,
        `<line class="${className}" x1="${x}" x2="${x}" y1="${n(y(min))}" y2="${n(y(max))}"/>`,
        `<circle class="${className}" cx="${x}" cy="${n(y(median))}" r="5"><title>${digits(median)}</title></circle>`,
      );
    });
    lines.push(`<text x="${n(middle)}" y="${top + PANEL + 18}" text-anchor="middle">${short(cell.n)}</text>`);
  });
  for (const connections of new Set(cells.map(cell => cell.connections))) {
    const [first, last] = ['findIndex', 'findLastIndex'].map(find =>
      cells[find as 'findIndex'](cell => cell.connections === connections),
    ) as [number, number];
    const [from, to] = [LEFT + first * step, LEFT + (last + 1) * step];
    const text = connections === 1 ? '1 connection' : `${connections} connections`;
    lines.push(
      `<line class="grid" x1="${n(to)}" x2="${n(to)}" y1="${top}" y2="${top + PANEL + 40}"/>`,
      `<text x="${n((from + to) / 2)}" y="${top + PANEL + 38}" text-anchor="middle">N, on ${text}</text>`,
    );
  }
  return lines;
}

/** As many digits as a picture needs. */
export const n = (x: number) => Math.round(x * 10) / 10;
