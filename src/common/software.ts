/** Name and version that manifests carry. */
export const SOFTWARE = 'kvidx-operator 0.1.0'
