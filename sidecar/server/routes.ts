import { Type } from '@sinclair/typebox'
import { ADMIN_ROUTES } from './admin.ts'
import { BACKUP_ROUTES } from './backups.ts'
import { BATCH_ROUTES } from './batch.ts'
import { CHANGE_ROUTES } from './changes.ts'
import { openApiText } from './openapi.ts'
import { parseQuery } from './parameters.ts'
import { RECORD_ROUTES } from './records.ts'
import type { Route } from './route.ts'
import { SCAN_ROUTES } from './scans.ts'
import { TRANSFER_ROUTES } from './transfer.ts'

const DOCUMENT: Route = {
  method: 'GET',
  path: '/v1/openapi.json',
  name: 'openapi',
  rights: 'none',
  summary: 'This document',
  query: {},
  answers: {
    200: { description: 'OpenAPI 3.1', body: { 'application/json': Type.Object({ openapi: Type.String() }) } },
  },
  handle(exchange) {
    parseQuery(exchange.query, {})
    exchange.answer(200, undefined, ['content-type', 'application/json'], openApiText(ROUTES))
  },
}

/** Every call of the data API. */
export const ROUTES: readonly Route[] = [
  ...RECORD_ROUTES,
  ...SCAN_ROUTES,
  ...BATCH_ROUTES,
  ...TRANSFER_ROUTES,
  ...CHANGE_ROUTES,
  ...ADMIN_ROUTES,
  ...BACKUP_ROUTES,
  DOCUMENT,
]
