import { KVIDX_DATABASE } from '../../api/v1alpha1/kvidx-database.ts'
import type { Resource } from '../../kube/object.ts'

export const DATABASES: Resource = {
  group: KVIDX_DATABASE.group,
  version: KVIDX_DATABASE.version,
  plural: KVIDX_DATABASE.plural,
  kind: KVIDX_DATABASE.kind,
  namespaced: true,
}
