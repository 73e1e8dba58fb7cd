/** The soak over time as a picture, in SVG: whether it slows down, or anything grows. */
import { LEFT, NAMES, n, picture, RIGHT, WIDTH } from './plot.js';
import type { Results } from './results.js';
import { short } from './section.js';
import type { SoakPoint } from './soak.js';

const TOP = 64;
const PANEL = 120;
const GAP = 64;
/** Where the names of a panel's lines stand. */
const [KEY, KEY_STEP] = [LEFT + 330, 100];
const POWERS = [0.1, 1, 10, 100, 1_000, 10_000];
const MB = 1_048_576;

interface Series {
  name: string;
  className: 'first' | 'second' | 'first thin' | 'second thin';
  value: (point: SoakPoint) => number;
}

/** What is drawn, one above the other. */
const PANELS: { title: string; series: Series[]; powers?: true }[] = [
  {
    title: 'Ids a second',
    series: [{ name: 'get', className: 'first', value: ({ idsPerSecond }) => idsPerSecond }],
  },
  {
    title: 'A call, ms: 99 % are faster; thin: the median',
    powers: true,
    series: [
      { name: 'get', className: 'first', value: ({ get }) => get.p99 },
      { name: 'did', className: 'second', value: ({ did }) => did.p99 },
      { name: '', className: 'first thin', value: ({ get }) => get.p50 },
      { name: '', className: 'second thin', value: ({ did }) => did.p50 },
    ],
  },
  {
    title: 'Resident memory, MB',
    series: [
      { name: 'client', className: 'first', value: ({ memory }) => memory.client / MB },
      { name: 'server', className: 'second', value: ({ memory }) => memory.server / MB },
    ],
  },
];

/** A line through each point, its time from left to right. */
export function plotSoak({ kind, version }: Results, points: SoakPoint[]): string {
  const end = points.at(-1)!.at;
  const x = (seconds: number) => n(LEFT + (seconds / end) * (WIDTH - LEFT - RIGHT));
  const panels = PANELS.map(({ title, series, powers }, i) => {
    const top = TOP + i * (PANEL + GAP);
    const values = series.flatMap(({ value }) => points.map(value));
    const high = Math.max(...values) * 1.1;
    const low = powers ? Math.min(...values) / 1.1 : 0;
    const share = (value: number) => (powers ? Math.log(value / low) / Math.log(high / low) : value / high);
    const y = (value: number) => n(top + PANEL - share(value) * PANEL);
    return [
      `<text x="${LEFT}" y="${top - 12}">${title}</text>`,
      ...(powers ? POWERS.filter(tick => tick >= low && tick <= high) : steps(high)).flatMap(tick => [
        `<line class="grid" x1="${LEFT}" x2="${WIDTH - RIGHT}" y1="${y(tick)}" y2="${y(tick)}"/>`,
        `<text x="${LEFT - 8}" y="${n(y(tick) + 4)}" text-anchor="end">${short(tick)}</text>`,
      ]),
      ...steps(end / 60).map(
        minute =>
          `<text x="${x(minute * 60)}" y="${top + PANEL + 18}" text-anchor="middle">${short(minute)} min</text>`,
      ),
      ...series.flatMap(({ name, className, value }, j) => {
        const line = points.map(point => `${x(point.at)} ${y(value(point))}`).join('L');
        const path = `<path class="${className}" d="M${line}"/>`;
        if (name === '') return [path];
        const at = KEY + j * KEY_STEP;
        const key = `<circle class="${className}" cx="${at}" cy="${top - 16}" r="5"/><text x="${at + 11}" y="${top - 12}">${name}</text>`;
        return [path, key];
      }),
    ];
  });
  const title = `${NAMES[kind]} ${version.split('-')[0]}: everything at once, over time`;
  return picture(title, TOP + PANELS.length * (PANEL + GAP) - 24, panels.flat());
}

/** Round numbers from 0 up, some six of them. */
function steps(high: number): number[] {
  const power = 10 ** Math.floor(Math.log10(high / 6));
  const step = [1, 2, 5, 10].map(factor => factor * power).find(one => high / one <= 7)!;
  return Array.from({ length: Math.floor(high / step) + 1 }, (_, i) => Number((i * step).toPrecision(6)));
}
