/** Finds what MariaDB needs to be a node of Galera, and fetches it if need be. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { addPackages, CACHE, FOLDERS, has, makeInCache, type Programs, provide } from '../server-install.js';

export interface GaleraPrograms {
  mariadb: Programs;
  /** The library that replicates. */
  provider: string;
  /** What a state transfer runs. */
  scripts: string[];
}

const UNPACKED = join(CACHE, 'galera');
const PROVIDERS = ['/usr/lib/galera', '/usr/lib/galera-4', '/usr/lib64/galera-4', `${UNPACKED}/usr/lib`];
const SCRIPTS = ['wsrep_sst_common', 'wsrep_sst_rsync'];
/** Of mariadb-server we need the scripts alone; installed, it would start a server of the machine's. */
const UNPACK =
  'mkdir "$1"; cd "$1"; shift; apt-get download "$@"; for file in *.deb; do dpkg-deb -x "$file" .; rm "$file"; done';

/**
 * What a node of Galera runs; fetches what is missing.
 * @throws Error that says what to do, where it can't be fetched.
 */
export async function provideGalera(log: (line: string) => void): Promise<GaleraPrograms> {
  const mariadb = await provide('mariadb', log);
  const missing = [
    ...((await has('rsync')) ? [] : ['rsync']),
    ...((await has('ss')) || (await has('lsof')) ? [] : ['iproute2']),
  ];
  let problem = missing.length > 0 ? await addPackages(missing, log) : '';
  if (!problem && !find()) {
    log(`Unpacking galera-4 and the scripts of mariadb-server into ${UNPACKED} (apt-get download) ...`);
    problem = await makeInCache(UNPACKED, UNPACK, 'galera-4', 'mariadb-server').then(
      () => '',
      error => error.message,
    );
  }
  const found = find();
  if (found && !problem) return { mariadb, ...found };
  throw new Error(
    `MariaDB Galera is not whole on this machine, and it can't be fetched from here: ${problem}\n` +
      'It needs MariaDB, the Galera library, wsrep_sst_rsync, rsync, and ss or lsof ' +
      '(Debian, Ubuntu: the packages galera-4, mariadb-server, rsync and iproute2).',
  );
}

function find(): Omit<GaleraPrograms, 'mariadb'> | undefined {
  const provider = PROVIDERS.map(folder => join(folder, 'libgalera_smm.so')).find(path => existsSync(path));
  const folder = [...FOLDERS, `${UNPACKED}/usr/bin`].find(folder =>
    SCRIPTS.every(name => existsSync(join(folder, name))),
  );
  return provider && folder ? { provider, scripts: SCRIPTS.map(name => join(folder, name)) } : undefined;
}
