import { Option } from 'commander'
import { environment } from '../common/environment.ts'

/** The flag of every command that asks the operations port. */
export const OPS_OPTION = (): Option =>
  new Option('--ops <address>', 'operations port; default http://127.0.0.1:$KVIDX_OPS_PORT, else port 8080')

export function opsAddress(given: string | undefined): string {
  return given ?? `http://127.0.0.1:${environment.read('KVIDX_OPS_PORT') ?? 8080}`
}
