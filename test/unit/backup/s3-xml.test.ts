import { expect, test } from 'vitest'
import { isWhole } from '../../../sidecar/backup/store/s3-xml.ts'

const LISTING =
  '<?xml version="1.0" encoding="UTF-8"?>\n<ListBucketResult xmlns="x"><Contents><Key>a&gt;b</Key></Contents></ListBucketResult>'

test('a listing is whole, or cut at any place and not', () => {
  expect(isWhole(LISTING)).toBe(true)
  expect(isWhole(`${LISTING}\n`)).toBe(true)
  expect(isWhole('<ListBucketResult xmlns="x"/>')).toBe(true)
  for (let end = 0; end < LISTING.length; end++) expect([end, isWhole(LISTING.slice(0, end))]).toEqual([end, false])
})

test('what is no listing is not whole', () => {
  for (const text of ['', 'upstream timed out', '<a></b>', '<a/>trailing'])
    expect([text, isWhole(text)]).toEqual([text, false])
})
