#!/usr/bin/env node
/**
 * The command line: `doloop create` and its likes put loops into a database, the others work with them. Each command is
 * in a file of scripts/cli/. Results go to standard output, what is said to people to standard error.
 *
 * It exits with 0: done; 1: refused or failed; 2: wrong usage, and nothing was begun. Ended by a signal, it ends as any
 * program does (130 to a shell after Ctrl-C).
 */
import { Command, CommanderError } from 'commander';
import { VERSION } from '../src/render.js';
import { addCalls } from './cli/calls.js';
import { examples, Interrupted, UsageError } from './cli/command.js';
import { addDoctor } from './cli/doctor.js';
import { addFill } from './cli/fill.js';
import { addFollow } from './cli/follow.js';
import { addMetrics } from './cli/metrics.js';
import { addSetup } from './cli/setup.js';
import { addStats } from './cli/stats.js';
import { tell } from './cli/terminal.js';
import { addWatch } from './cli/watch.js';
import { addWork } from './cli/work.js';

const program = new Command('doloop')
  .description('Loops, which keep millions of things fresh, on MySQL and MariaDB.')
  .version(VERSION)
  .exitOverride()
  .configureOutput({ outputError: text => tell(withoutSecrets(text.replace(/^error: /, ''))) })
  .addHelpText('after', examples('create user_loop', 'sql user_loop | mysql -D app', 'help create'));

program.commandsGroup('Make loops, and take them away:');
addSetup(program);
program.commandsGroup('Work:');
addWork(program);
addFill(program);
addFollow(program);
program.commandsGroup('Look after them:');
addStats(program);
addWatch(program);
addMetrics(program);
addDoctor(program);
program.commandsGroup('The procedures, for people:');
addCalls(program);

/** An argument that was not understood, as it is shown: a password may be in its value, behind -p, or in a URL. */
function withoutSecrets(message: string): string {
  return message.replace(/(unknown option '(?:-[^-]|--[^=']*)).*'/s, "$1'").replace(/('[^']*:\/\/).*/s, "$1…'");
}

// Who reads the output may stop early (`doloop sql user_loop | head`); what was begun goes on.
process.stderr.on('error', () => {});
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') return;
  tell(`cannot write: ${error.message}`);
  process.exitCode = 1;
});

try {
  await program.parseAsync();
} catch (error) {
  if (error instanceof Interrupted) process.kill(process.pid, error.signal);
  else if (error instanceof CommanderError) process.exitCode = error.exitCode === 0 ? 0 : 2;
  else {
    const { message } = error as Error;
    tell(error instanceof UsageError ? withoutSecrets(message) : message);
    process.exitCode = error instanceof UsageError ? 2 : 1;
  }
}
