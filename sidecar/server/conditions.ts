import { KvidxError } from '../../src/common/errors.ts'
import { formatDigest, parseDigest } from '../database/digest.ts'
import type { Condition } from '../database/operation.ts'
import type { Exchange } from './exchange.ts'
import { clip, invalidParameter } from './parameters.ts'

const ETAG = /^(W\/)?"([\x21\x23-\x7e\x80-\xff]*)"$/

/** What a header of entity tags asks for; `digests` has the strong tags that can be ours. */
export type TagList = { readonly any: true } | { readonly any?: never; readonly digests: readonly bigint[] }

/** Reads If-Match or If-None-Match. Errors: invalid_parameter when it is neither `*` nor a list of quoted tags. */
export function readTags(value: string, name: string, weak: boolean): TagList {
  if (value.trim() === '*') return { any: true }
  const digests: bigint[] = []
  for (const part of value.split(',')) {
    const match = ETAG.exec(part.trim())
    if (!match) throw invalidParameter(name, `${name}: '${clip(value)}' is not allowed (allowed: * or quoted ETags)`)
    // a tag that we never made cannot match; the other tags of the list still can
    const digest = parseDigest(match[2] as string)
    if (digest !== undefined && (weak || match[1] === undefined)) digests.push(digest)
  }
  return { digests }
}

/**
 * The condition of a change, from its headers and `ifTerm`. 'never': the header can hold for no record, so the change is refused as it
 * is. Errors: invalid_parameter.
 */
export function writeCondition(exchange: Exchange, ifTerm: bigint | undefined): Condition | 'never' | undefined {
  const ifMatch = exchange.header('if-match')
  const ifNoneMatch = exchange.header('if-none-match')
  if (ifMatch === undefined && ifNoneMatch === undefined) return ifTerm === undefined ? undefined : { term: ifTerm }
  const condition: { absent?: true; present?: true; digest?: bigint; term?: bigint } = {}
  if (ifTerm !== undefined) condition.term = ifTerm
  if (ifNoneMatch !== undefined) {
    if (ifNoneMatch.trim() !== '*')
      throw invalidParameter('If-None-Match', 'If-None-Match: a change takes * alone (only if the record is absent)')
    condition.absent = true
  }
  if (ifMatch !== undefined) {
    const tags = readTags(ifMatch, 'If-Match', false)
    if (tags.any) condition.present = true
    else if (tags.digests.length > 1)
      throw invalidParameter('If-Match', `If-Match: ${tags.digests.length} ETags are given (allowed: one, or *)`)
    else if (tags.digests.length === 0) return 'never'
    else condition.digest = tags.digests[0] as bigint
  }
  return condition
}

/** Whether a list of tags names the record; an absent record is named by none. */
export function matches(tags: TagList, digest: bigint | undefined): boolean {
  return digest !== undefined && (tags.any === true || tags.digests.includes(digest))
}

export function etag(digest: bigint): string {
  return `"${formatDigest(digest)}"`
}

export function conditionFailed(message = 'the condition does not hold'): KvidxError {
  return new KvidxError('condition_failed', message)
}
