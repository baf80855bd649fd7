//! Listings that arrive page by page.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use futures::Stream;

use super::Entry;
use crate::error::Error;

type PageFuture<T> = Pin<Box<dyn Future<Output = Result<(Vec<T>, String), Error>> + Send>>;
pub(crate) type Fetch<T> = Arc<dyn Fn(String) -> PageFuture<T> + Send + Sync>;

/// A listing under way. Nothing is asked for before it is wanted.
pub struct Pages<T = Entry> {
    fetch: Fetch<T>,
    /// `None` after the last page.
    token: Option<String>,
}

impl<T: Send + 'static> Pages<T> {
    pub(crate) fn new(fetch: Fetch<T>) -> Self {
        Self {
            fetch,
            token: Some(String::new()),
        }
    }

    /// The next page; `None` after the last. After an error the same page is asked for again.
    ///
    /// # Errors
    /// Not found, not allowed, or nobody to ask.
    pub async fn next_page(&mut self) -> Result<Option<Vec<T>>, Error> {
        let Some(token) = self.token.clone() else {
            return Ok(None);
        };
        let (entries, next) = (self.fetch)(token).await?;
        self.token = Some(next).filter(|next| !next.is_empty());
        Ok(Some(entries))
    }

    /// All entries, one by one. Ends after the first error.
    pub fn entries(self) -> impl Stream<Item = Result<T, Error>> + Send {
        let state = (Some(self), Vec::new().into_iter());
        futures::stream::unfold(state, |(mut pages, mut page)| async move {
            loop {
                if let Some(entry) = page.next() {
                    return Some((Ok(entry), (pages, page)));
                }
                match pages.as_mut()?.next_page().await {
                    Ok(Some(entries)) => page = entries.into_iter(),
                    Ok(None) => return None,
                    Err(error) => return Some((Err(error), (None, page))),
                }
            }
        })
    }

    /// All entries at once.
    ///
    /// # Errors
    /// See [`Pages::next_page`].
    pub async fn all(mut self) -> Result<Vec<T>, Error> {
        let mut all = Vec::new();
        while let Some(page) = self.next_page().await? {
            all.extend(page);
        }
        Ok(all)
    }
}

impl<T> std::fmt::Debug for Pages<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pages")
            .field("token", &self.token)
            .finish_non_exhaustive()
    }
}
