"""The drivers of Yandex Container Registry and Yandex Cloud Registry."""
