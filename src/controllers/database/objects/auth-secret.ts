import type { KubeObject } from '../../../kube/object.ts'
import { ownedMeta } from '../names.ts'
import type { Blueprint } from './blueprint.ts'

export const TOKENS = ['read', 'write', 'admin'] as const

/** The Secret with the tokens, made once; `token` gives a new random one. People may change it afterwards: two tokens a file, one a line. */
export function authSecret({ names, namespace, name, owner }: Blueprint, token: () => string): KubeObject {
  return {
    apiVersion: 'v1',
    kind: 'Secret',
    metadata: ownedMeta(names.authSecret, namespace, name, owner),
    type: 'Opaque',
    stringData: Object.fromEntries(TOKENS.map(right => [right, token()])),
  } as KubeObject
}
