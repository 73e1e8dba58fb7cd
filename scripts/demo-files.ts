/** The files whose paths are the demo's ids. */
import { createHash } from 'node:crypto';
import { constants, type Stats } from 'node:fs';
import { access, lstat, readdir, readFile, stat } from 'node:fs/promises';
import { join, relative } from 'node:path';

const MAX_FILE_BYTES = 16e6;
const MAX_BYTES = 500e6;
const MAX_PATH = 512;

export const PATH_TYPE = `VARCHAR(${MAX_PATH}) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin`;

export interface Found {
  /** The state of each file when it was found, by its path relative to the folder. */
  files: Map<string, string>;
  bytes: number;
  /** How many files were left out, by reason. */
  skipped: Map<string, number>;
  /** There are more, but these are enough. */
  cut: boolean;
}

/** The files of a folder on its own file system, without git's. */
export async function find(folder: string, maxFiles: number): Promise<Found> {
  const found: Found = { files: new Map(), bytes: 0, skipped: new Map(), cut: false };
  const root = await stat(folder);
  if (!root.isDirectory()) throw new Error(`${folder} is not a folder`);
  const leaveOut = (reason: string) => found.skipped.set(reason, (found.skipped.get(reason) ?? 0) + 1);
  let seen = 0;
  const folders = [folder];
  for (const next of folders) {
    for (const name of await readdir(next).catch(() => [])) {
      const path = join(next, name);
      const stats = await lstat(path).catch(() => undefined);
      if (stats?.isDirectory() && stats.dev === root.dev && name !== '.git') folders.push(path);
      if (!stats && name.includes('\ufffd')) leaveOut('with a name that is not UTF-8');
      if (!stats?.isFile()) continue;
      if (seen >= maxFiles || found.bytes > MAX_BYTES) return { ...found, cut: true };
      seen += 1;
      const id = relative(folder, path);
      const reason = await unfit(id, path, stats);
      if (reason) {
        leaveOut(reason);
      } else {
        found.files.set(id, stateOf(stats));
        found.bytes += stats.size;
      }
    }
  }
  return found;
}

async function unfit(id: string, path: string, { size }: Stats): Promise<string | undefined> {
  if (size > MAX_FILE_BYTES) return `larger than ${MAX_FILE_BYTES / 1e6} MB`;
  if ([...id].length > MAX_PATH) return `with a path of more than ${MAX_PATH} characters`;
  if (id.endsWith(' ')) return 'with a name that ends in a space'; // to MySQL it is the same without
  return access(path, constants.R_OK).then(
    () => undefined,
    () => 'that may not be read',
  );
}

/** A file's state: another one when somebody has changed it, undefined when it is gone. */
export function state(path: string): Promise<string | undefined> {
  return lstat(path).then(stateOf, () => undefined);
}

const stateOf = ({ size, mtimeMs }: Stats) => `${size} ${mtimeMs}`;

/** A file's SHA-256 in hexadecimal; undefined if it can't be read. */
export async function sha256(path: string): Promise<string | undefined> {
  const content = await readFile(path).catch(() => undefined);
  return content && createHash('sha256').update(content).digest('hex');
}
