import { stringify } from 'yaml'
import { customResourceDefinition } from './crd.ts'
import type { KindDefinition } from './kind.ts'

/** Client-side apply keeps the whole file in an annotation, which may not be larger. */
export const LARGEST_CRD = 262_144

/** Name in crds/. */
export function crdFileName(kind: KindDefinition): string {
  return `${kind.group}_${kind.plural}.yaml`
}

/** Content of the file in crds/: the same for the same schema. Throws RangeError when it is too large for client-side apply. */
export function renderCrd(kind: KindDefinition): string {
  // version: Kubernetes reads YAML 1.1, where a bare Off is a boolean
  const body = stringify(customResourceDefinition(kind), {
    version: '1.1',
    lineWidth: 0,
    aliasDuplicateObjects: false,
  })
  const text = `# Generated from src/api by 'npm run generate'. Do not edit.\n${body}`
  const size = Buffer.byteLength(text)
  if (size >= LARGEST_CRD)
    throw new RangeError(`${crdFileName(kind)} has ${size} bytes; it must be below ${LARGEST_CRD}`)
  return text
}
