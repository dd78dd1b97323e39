import { stat } from 'node:fs/promises'
import { KvidxError } from '../common/errors.ts'

const WHY: Readonly<Record<string, string>> = {
  ENOENT: 'there is no such file',
  ENOTDIR: 'a part of the path is no directory',
  EISDIR: 'it is a directory',
  EACCES: 'this user may not',
}

/** The error of a file that a person named and that cannot be read. @param name the file, with its flag where it has one */
export function unreadable(name: string, cause: unknown): KvidxError {
  const { code, message } = cause as NodeJS.ErrnoException
  return new KvidxError('invalid_parameter', `${name} cannot be read: ${WHY[code ?? ''] ?? message}`, {}, cause)
}

/** Bytes of a file that a person named. Errors: invalid_parameter where it is none. @param name as above */
export async function sizeOfGiven(file: string, name = file): Promise<number> {
  const found = await stat(file).catch((error: unknown) => {
    throw unreadable(name, error)
  })
  if (!found.isFile()) throw new KvidxError('invalid_parameter', `${name} is not a file`)
  return found.size
}
