/** Bundles the status page: src/page/ to the three files that the program serves. */
import { readFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import { build, type Metafile } from 'esbuild'

const FOLDER = join(import.meta.dirname, '..', 'src', 'page')

interface Page {
  /** By name. */
  readonly files: Readonly<Record<'index.html' | 'page.js' | 'page.css', string>>
  readonly metafile: Metafile
}

export async function bundlePage(): Promise<Page> {
  const { outputFiles, metafile } = await build({
    entryPoints: [join(FOLDER, 'page.tsx'), join(FOLDER, 'page.css')],
    outdir: 'status',
    bundle: true,
    write: false,
    metafile: true,
    minify: true,
    format: 'esm',
    target: 'es2022',
    jsx: 'automatic',
    jsxImportSource: 'preact',
    legalComments: 'none',
    logLevel: 'warning',
  })
  const text = (name: string): string => outputFiles.find(({ path }) => basename(path) === name)!.text
  const files = {
    'index.html': readFileSync(join(FOLDER, 'index.html'), 'utf8'),
    'page.js': text('page.js'),
    'page.css': text('page.css'),
  }
  return { files, metafile }
}
