/** Puts the results into this folder's README: no number in it is typed by hand. */
import { existsSync, readFileSync, realpathSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { type Results, resultsFile, SECTION_NAMES, SECTIONS } from './results.js';
import type { Section } from './section.js';

/** The folder of the sources, where the results and the README are. */
const FOLDER = new URL('../../../scripts/bench/', import.meta.url);
export const README = fileURLToPath(new URL('README.md', FOLDER));
const KINDS = ['mariadb', 'mysql'] as const;
const NAMES = { mariadb: 'MariaDB', mysql: 'MySQL' };

const BEGIN = '<!-- Written by `node dist/scripts/bench/report.js` out of results-*.json -->';
const END = '<!-- Written until here -->';

/** The text with what stands between the marks written anew. */
export function withReport(readme: string): string {
  const [begin, end] = [readme.indexOf(BEGIN), readme.indexOf(END)];
  if (begin < 0 || end < begin) throw new Error('The README has no marks between which to write');
  return `${readme.slice(0, begin + BEGIN.length)}\n\n${report()}\n\n${readme.slice(end)}`;
}

function report(): string {
  const all = KINDS.map(kind => new URL(resultsFile(kind), FOLDER))
    .filter(file => existsSync(file))
    .map(file => JSON.parse(readFileSync(file, 'utf8')) as Results);
  return all.map(reportOf).join('\n\n');
}

function reportOf(results: Results): string {
  const { kind, version, machine, measured, quick, options, sections } = results;
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
  }
  return parts.join('\n\n');
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
  writeFileSync(README, withReport(readFileSync(README, 'utf8')));
}
