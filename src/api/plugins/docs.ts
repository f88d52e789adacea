import fastifySwagger from '@fastify/swagger';
import fastifySwaggerUi from '@fastify/swagger-ui';
import fp from 'fastify-plugin';
import { errorsHtml } from '../error-pages.ts';
import { openApiDocument } from '../openapi.ts';

declare module 'fastify' {
  interface FastifyInstance {
    /** The OpenAPI document of everything that is registered; complete once the app is ready. */
    openApi: () => object;
  }
}

/** Nothing may be loaded from anywhere else, and nothing here is asked to be. */
const contentSecurityPolicy =
  "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; connect-src 'self'; " +
  "font-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

/**
 * The pages for people: the API as a document that can be tried out, and the catalogue of errors. Everything is served
 * from here, so it works where there is no network.
 */
export const docs = fp<{ version: string }>(
  async (app, { version }) => {
    // Made of the routes, so not before all of them are there; and when somebody asks for it, which on most servers nobody
    // does: it takes longer than all the rest of a start.
    let document: object | undefined;
    app.decorate('openApi', () => (document ??= openApiDocument(app.operations, version)));

    const specification = { document: { toJSON: () => app.openApi() } as never };
    await app.register(fastifySwagger, { mode: 'static', specification });
    await app.register(fastifySwaggerUi, {
      routePrefix: '/docs',
      staticCSP: contentSecurityPolicy,
      theme: { title: 'Fishery API' },
      uiConfig: {
        // Without the bar on top, which offers to load documents from elsewhere.
        layout: 'BaseLayout',
        persistAuthorization: true,
        displayRequestDuration: true,
        docExpansion: 'list',
        tryItOutEnabled: true,
      },
    });

    const page = errorsHtml();
    app.get('/docs/errors', { config: { undocumented: true } }, async (_request, reply) =>
      reply.type('text/html; charset=utf-8').header('content-security-policy', contentSecurityPolicy).send(page),
    );
    app.get('/console', { config: { undocumented: true } }, async (_request, reply) => reply.redirect('/docs', 302));
  },
  { name: 'fishery-docs', dependencies: ['fishery-operations'] },
);
