import assert from 'node:assert/strict';
import { test } from 'node:test';
import { serverKind } from '../../src/server-kind.js';

const able = {
  MySQL: [
    '8.0.19 MySQL Community Server - GPL',
    '8.0.19-log MySQL Community Server - GPL',
    '8.0.100 MySQL Community Server - GPL',
    '8.0.36-28 Percona Server (GPL), Release 28, Revision 47601f19',
    '8.0.36-28.1 Percona XtraDB Cluster (GPL), Release rel28',
    '8.0.32 Source distribution', // Amazon Aurora 3.05.2
    '8.0.35-google (Google)', // Cloud SQL
    '8.4.3 MySQL Community Server - GPL',
    '9.7.4-2 (Debian)',
    '10.0.0 MySQL Community Server - GPL',
  ],
  MariaDB: [
    '10.6.0-MariaDB mariadb.org binary distribution',
    '10.6.18-13-MariaDB-enterprise MariaDB Enterprise Server',
    '5.5.5-10.6.1-MariaDB mariadb.org binary distribution',
    '10.11.19-MariaDB-0+deb12u1-log Debian 12',
    '11.8.2-MariaDB-ubu2404 mariadb.org binary distribution',
    '12.0.2-MariaDB mariadb.org binary distribution',
  ],
};

const tooOld = {
  MySQL: [
    '8.0.18 MySQL Community Server - GPL',
    '8.0.4-rc-log MySQL Community Server (GPL)',
    '5.7.44-log MySQL Community Server (GPL)',
    '5.7.44-48 Percona Server (GPL), Release 48',
    '5.0.45-Xpand-6.1.0',
    '',
  ],
  MariaDB: [
    '10.5.9-MariaDB mariadb.org binary distribution',
    '5.5.5-10.5.9-MariaDB mariadb.org binary distribution',
    '5.5.68-MariaDB MariaDB Server',
    '5.5.5-5.5.68-MariaDB MariaDB Server',
  ],
};

const unable: [string, RegExp][] = [
  ['8.0.11-TiDB-v7.5.0 TiDB Server (Apache License 2.0) Community Edition', /TiDB has no stored procedures/],
  ['5.7.25-TiDB-v6.5.0 TiDB Server', /TiDB has no stored procedures/],
  ['8.0.30-Vitess Version: 18.0.0', /Vitess and PlanetScale run no such/],
  ['8.0.34-PlanetScale', /Vitess and PlanetScale run no such/],
  ['5.7.32 SingleStoreDB source distribution (compatible; MySQL Enterprise & MySQL Commercial)', /SingleStore has no/],
  ['5.7.25-OceanBase_CE-v4.2.1.0 OceanBase_CE 4.2.1.0', /OceanBase is not/],
  ['8.0.33 Dolt', /Dolt has no row locks/],
];

test('MySQL from 8.0.19 and MariaDB from 10.6 are accepted, forks and distributions of them too', () => {
  for (const [kind, versions] of Object.entries(able)) {
    for (const version of versions) assert.equal(serverKind(version), kind, version);
  }
});

test('an older server is refused with what is needed and what it is', () => {
  const needed = { MySQL: 'MySQL 8.0.19', MariaDB: 'MariaDB 10.6.0' };
  for (const [kind, versions] of Object.entries(tooOld) as [keyof typeof needed, string[]][]) {
    for (const version of versions) {
      const message = `server: ${needed[kind]} or newer is needed (it is ${version})`;
      assert.throws(() => serverKind(version), { name: 'Error', message }, version);
    }
  }
});

test('a server that speaks the protocol and can not keep a loop is refused, whatever version it claims', () => {
  for (const [version, why] of unable) {
    assert.throws(
      () => serverKind(version),
      (error: Error) => why.test(error.message) && error.message.endsWith(`(it is ${version})`),
      version,
    );
  }
});
