/** Loops as earlier versions made them: see fixtures/README.md. */
import { readdirSync, readFileSync } from 'node:fs';
import { basename } from 'node:path';

const FIXTURES = new URL('../../test/fixtures/', import.meta.url);

export interface Fixture {
  readonly name: string;
  readonly text: string;
}

/** The fixtures of a folder, by name. */
export function fixtures(folder: 'procedures' | 'tables'): Fixture[] {
  const names = readdirSync(new URL(folder, FIXTURES)).sort();
  return names.map(name => ({
    name: basename(name, '.sql'),
    text: readFileSync(new URL(`${folder}/${name}`, FIXTURES), 'utf8'),
  }));
}

/** The statements of a loop of INT ids as the first version made it, one each. The name may need no quoting. */
export function olderStatements(table: string): string[] {
  const { text } = fixtures('procedures').find(({ name }) => name === 'df676aa')!;
  const statements = text.split('DELIMITER $$\n')[1]!.split('$$\n').slice(0, -1);
  return statements.map(one => one.trim().replaceAll('old_loop', table));
}
