import { environment, VARIABLES } from '../common/environment.ts'
import { suggest } from '../common/suggest.ts'

/** What Kubernetes and Docker set for services of such names, and what tests read. */
const OF_OTHERS = /_SERVICE_(HOST|PORT)|_PORT(_\d|$)|^KVIDX_TEST_/

/** Lines about variables that begin as ours do and are none: mostly misspelt, and else without any effect. */
export function unknownVariables(): readonly string[] {
  return environment.unknown
    .filter(name => !OF_OTHERS.test(name))
    .map(name => {
      const near = suggest(name, Object.keys(VARIABLES))
      return `kvidx: the variable ${name} has no meaning${near === undefined ? '' : `; did you mean ${near}?`}\n`
    })
}
