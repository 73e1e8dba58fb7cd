/** `doloop doctor` looks at a loop and its server, and says what is wrong and what mends it. */
import type { Command } from 'commander';
import { echo } from 'zx';
import { inDatabase } from '../../src/install.js';
import { connected, connecting, examples, type Flags, loopNamed } from './command.js';
import { examine, NAMES } from './doctor/examine.js';
import type { Finding, Level } from './doctor/finding.js';
import { many, paint, type Style, shownLoop } from './terminal.js';

export function addDoctor(program: Command): void {
  connecting(
    program
      .command('doctor')
      .description('look at a loop and its server; say what is wrong, each with the command that mends it')
      .argument('<table>', 'user_loop or app.user_loop')
      .action(doctor)
      .addHelpText('after', NOTE + examples('doctor user_loop', 'doctor app.user_loop --json')),
  );
}

const NOTE = `
Nothing is changed: the procedures are called without ids. It exits with 0 if there is
no problem (✗), whatever the warnings (!). What this account may not see is a warning.
`;

const MARKS: Record<Level, [mark: string, style: Style]> = {
  ok: ['✓', 'green'],
  warning: ['!', 'yellow'],
  problem: ['✗', 'red'],
};
const WIDTH = Math.max(...NAMES.map(name => name.length));

async function doctor(table: string, options: Flags): Promise<void> {
  const given = loopNamed(table);
  await connected(options, async connection => {
    const name = await inDatabase(connection, given);
    const findings: Finding[] = [];
    for await (const finding of examine(connection, name)) {
      findings.push(finding);
      if (!options.json) write(finding);
    }
    if (options.json) echo(JSON.stringify(findings));
    const problems = findings.filter(({ level }) => level === 'problem').length;
    if (problems > 0) throw new Error(`${shownLoop(name)} has ${many(problems, 'problem')}`);
  });
}

function write({ check, level, text, cure }: Finding): void {
  const [mark, style] = MARKS[level];
  echo(`${paint(process.stdout, style, mark)} ${check.padEnd(WIDTH)}  ${text.replaceAll(/\s+/g, ' ')}`);
  if (cure !== undefined) echo(`${' '.repeat(WIDTH + 4)}${paint(process.stdout, 'cyan', cure)}`);
}
