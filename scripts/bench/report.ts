/** Puts the results into this folder's README, their sum into the project's, and draws them: no number is typed by hand. */
import { existsSync, readFileSync, realpathSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import type { Cell, Rival } from './cells.js';
import { spread } from './measure.js';
import { NAMES } from './plot.js';
import { plotsOf } from './plots.js';
import { type Results, resultsFile, SECTION_NAMES, SECTIONS } from './results.js';
import { digits, type Section, short } from './section.js';
import type { SoakPoint } from './soak.js';

/** The folder of the sources, where the results and the README are. */
const FOLDER = new URL('../../../scripts/bench/', import.meta.url);
const KINDS = ['mariadb', 'mysql'] as const;

/** The files that tell of the results, and what stands there between the marks. */
export const REPORTS: { file: string; write: (all: Results[]) => string }[] = [
  { file: fileURLToPath(new URL('README.md', FOLDER)), write: all => all.map(reportOf).join('\n\n') },
  { file: fileURLToPath(new URL('../../README.md', FOLDER)), write: sumOf },
];

const BEGIN = '<!-- Written by `node dist/scripts/bench/report.js` out of results-*.json -->';
const END = '<!-- Written until here -->';

const recorded = (): Results[] =>
  KINDS.map(kind => new URL(resultsFile(kind), FOLDER))
    .filter(file => existsSync(file))
    .map(file => JSON.parse(readFileSync(file, 'utf8')) as Results);

/** The pictures beside the README, as the results have it. */
export const pictures = (): { file: string; svg: string }[] =>
  recorded().flatMap(results =>
    Object.entries(plotsOf(results)).map(([name, svg]) => ({ file: fileURLToPath(new URL(name, FOLDER)), svg })),
  );

/** The text with what stands between the marks written anew. */
export function withReport(text: string, write: (all: Results[]) => string): string {
  const [begin, end] = [text.indexOf(BEGIN), text.indexOf(END)];
  if (begin < 0 || end < begin) throw new Error('There are no marks between which to write');
  return `${text.slice(0, begin + BEGIN.length)}\n\n${write(recorded())}\n\n${text.slice(end)}`;
}

/** The ratios of the smaller loop's cells, on one connection and on the most, side by side. */
function sumOf(all: Results[]): string {
  const cells = all.map(({ sections }) => (sections.cells ?? []) as Cell[]);
  const [first = []] = cells;
  const ids = Math.min(...first.map(cell => cell.ids));
  const most = Math.max(...first.map(cell => cell.connections));
  const shown = first.filter(cell => cell.ids === ids && [1, most].includes(cell.connections));
  const rivals: [Rival, string][] = [
    ['byHand', 'by hand'],
    ['original', 'original'],
  ];
  const heads = all.flatMap(({ kind }) => rivals.map(([, name]) => `${NAMES[kind]} / ${name}`));
  const rows = shown.map(({ n, connections }) => [
    `${short(n)} × ${connections}`,
    ...cells.flatMap(its => {
      const cell = its.find(one => one.ids === ids && one.n === n && one.connections === connections);
      return rivals.map(([rival]) => digits(cell?.ratios[rival]?.median ?? Number.NaN));
    }),
  ]);
  const line = (values: string[]) => `| ${values.join(' | ')} |`;
  return [
    line(['ids at once × connections', ...heads]),
    line(['---', ...heads.map(() => '--:')]),
    ...rows.map(line),
  ].join('\n');
}

function reportOf(results: Results): string {
  const { kind, version, machine, measured, quick, options, sections, points } = results;
  const parts = [
    `## ${NAMES[kind]}`,
    `${version}, on ${machine}, ${measured}${quick ? ', **a quick run**: for a look, not for the record' : ''}. Its options: ${Object.entries(
      options,
    )
      .map(([name, value]) => `\`${name}=${value}\``)
      .join(', ')}.`,
    `![Ours through theirs, for each cell](plot-${kind}.svg)`,
  ];
  for (const name of SECTION_NAMES) {
    const rows = sections[name];
    if (rows) parts.push(tableOf(SECTIONS[name], rows));
    if (rows && name === 'soak' && points) parts.push(...overTime(kind, points));
  }
  return parts.join('\n\n');
}

/** The soak's picture, and the first, the last, and how they lie between. */
function overTime(kind: Results['kind'], points: SoakPoint[]): string[] {
  const MB = 1_048_576;
  const values: [string, (point: SoakPoint) => number][] = [
    ['ids a second', point => point.idsPerSecond],
    ['get, median, ms', point => point.get.p50],
    ['get, 99 %, ms', point => point.get.p99],
    ['did, median, ms', point => point.did.p50],
    ['did, 99 %, ms', point => point.did.p99],
    ['memory of the client, MB', point => point.memory.client / MB],
    ['memory of the server, MB', point => point.memory.server / MB],
    ['load of the machine', point => point.load],
  ];
  const line = (cells: string[]) => `| ${cells.join(' | ')} |`;
  const [first, last] = [points[0]!, points.at(-1)!];
  const table = [
    line(['over time', 'first', 'median', 'least', 'most', 'last']),
    line(['---', ...Array.from({ length: 5 }, () => '--:')]),
    ...values.map(([what, value]) => {
      const { median, min, max } = spread(points.map(value));
      return line([what, ...[value(first), median, min, max, value(last)].map(digits)]);
    }),
  ];
  const about =
    `Over ${short(Math.round(last.at / 6) / 10)} minutes, a point each ${short(Math.round(first.at))} seconds. Memory is that of the process: ` +
    'the client’s is that of all workers and of the bookkeeping over them. The load is how many processes of the ' +
    'whole machine wanted one of its processors, over a minute: other work ran beside it.';
  return [`![Everything at once, over time](soak-${kind}.svg)`, about, table.join('\n')];
}

function tableOf({ title, about, columns, values }: Section<unknown>, rows: unknown[]): string {
  const line = (cells: string[]) => `| ${cells.join(' | ')} |`;
  return [
    `### ${title}`,
    '',
    about,
    '',
    line(columns.map(column => column.title)),
    line(columns.map(({ align }) => (align === 'left' ? '---' : '--:'))),
    ...rows.map(row => line(values(row))),
  ].join('\n');
}

if (process.argv[1] && realpathSync(process.argv[1]) === fileURLToPath(import.meta.url)) {
  for (const { file, write } of REPORTS) writeFileSync(file, withReport(readFileSync(file, 'utf8'), write));
  for (const { file, svg } of pictures()) writeFileSync(file, svg);
}
