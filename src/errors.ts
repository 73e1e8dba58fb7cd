import type { MySqlError } from './mysql.js';
import { type LoopName, qualifiedName } from './names.js';

/** What went wrong: see the README for each. */
export type DoLoopErrorCode = 'NO_LOOP' | 'NOT_ALLOWED' | 'REFUSED' | 'NOT_ROLLED_BACK';

/**
 * An error of doloop's own. `cause` is the server's error, where there is one. Errors that are not doloop's (a lost
 * connection, a deadlock in the caller's transaction) are thrown as mysql2 gives them.
 */
export class DoLoopError extends Error {
  override readonly name = 'DoLoopError';
  readonly code: DoLoopErrorCode;

  constructor(code: DoLoopErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}

/** No sign of a loop that is not there: of a savepoint (1305, too) a procedure would have handled it, had a KILL not come. */
export function isOfSavepoint({ message }: MySqlError): boolean {
  return message.startsWith('SAVEPOINT');
}

/** What a server's error of a call means to the caller. */
export function explained(error: MySqlError, loop: LoopName): Error {
  const name = qualifiedName(loop).replaceAll('`', '');
  switch (error.errno) {
    case 1305: // ER_SP_DOES_NOT_EXIST
    case 1146: // ER_NO_SUCH_TABLE
      if (isOfSavepoint(error)) return error;
      return new DoLoopError('NO_LOOP', `${name} is no loop here; \`npx doloop create ${name}\` makes it`, {
        cause: error,
      });
    case 1370: // ER_PROCACCESS_DENIED_ERROR
      return new DoLoopError(
        'NOT_ALLOWED',
        `this account may not use ${name}; \`npx doloop create ${name} --grant ACCOUNT\` allows it`,
        { cause: error },
      );
    case 1644: // ER_SIGNAL_EXCEPTION
      return new DoLoopError('REFUSED', error.message, { cause: error });
    default:
      return error;
  }
}
